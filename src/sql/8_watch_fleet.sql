-- Who has a say about the steps of a watch with these handlers: workers that have one of them, and had a lease within
-- the last two minutes.
select w.id, w.handlers, w.state in ('starting', 'running') and w.lease_until > watchbell.instant() as lives
from watchbell.workers w
where w.lease_until > watchbell.instant() - interval '2 minutes' and w.handlers && $1::text[]
order by w.id desc
limit 1000

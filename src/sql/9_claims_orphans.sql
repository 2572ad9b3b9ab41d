-- Leased, orphans: claims of watched rows whose claimant is not a live worker. Those of one watch together, from a place
-- on: those that cannot be ended now keep nobody from the others.
select c.watch_id, c.key, c.step, c.id, c.fence, c.claimed_by, c.attempt, c.crashes,
       exists (select from watchbell.workers w where w.id = c.claimed_by and w.alone <> -c.id) as spared
from watchbell.watch_claims c
where c.claimed_by is not null and (c.watch_id, c.step, c.key) > ($1::bigint, $2::text, $3::text[])
  and not exists (select from watchbell.workers w
                  where w.id = c.claimed_by and w.state in ('starting', 'running', 'draining'))
order by c.watch_id, c.step, c.key
limit 200

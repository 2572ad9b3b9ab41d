-- The newest errors of a watch, of one row if its key is given; no older than an hour without one, as no index leads
-- to the newest of all. A row that waits has its attempt in its claim.
select e.key, e.step, e.attempt, e.worker_id, e.kind, e.message, e.at,
       case when isfinite(c.due_at) then c.due_at end as again_at,
       watchbell.watch_output(e.watch_id, e.key, e.at, e.attempt) as output
from watchbell.watch_errors e
left join watchbell.watch_claims c
  on c.watch_id = e.watch_id and c.key = e.key and c.step = e.step and c.attempt = e.attempt and c.claimed_by is null
where e.watch_id = (select watchbell.watch_id($1))
  and (e.key = $2::text[] or $2::text[] is null and e.at > now() - interval '1 hour')
order by e.at desc
limit $3

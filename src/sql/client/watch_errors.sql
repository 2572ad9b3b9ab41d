-- The newest errors of a watch, of one row if its key is given; no older than an hour without one, as no index leads
-- to the newest of all.
select array_to_string(e.key, ', ') as key, e.step, e.attempt, e.worker_id, e.kind, e.message, e.at
from watchbell.watch_errors e
where e.watch_id = (select watchbell.watch_id($1))
  and (e.key = $2::text[] or $2::text[] is null and e.at > now() - interval '1 hour')
order by e.at desc
limit $3

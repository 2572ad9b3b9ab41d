-- Of one watch ($1): rows that wait and rows that failed, at most $2 of each state, and what failed in the last hour.
select c.waiting, c.capped, c.waits_for, c.failed, e.errors
from (select sum(x.rows) filter (where x.role = 'waiting')::bigint as waiting,
             coalesce(bool_or(x.capped) filter (where x.role = 'waiting'), false) as capped,
             now() - min(x.oldest) filter (where x.role = 'waiting') as waits_for,
             sum(x.rows) filter (where x.role = 'failed')::bigint as failed
      from watchbell.watch_counts($1, $2) x) c
cross join (select count(*) as errors
            from (select from watchbell.watch_errors e
                  where e.watch_id = (select watchbell.watch_id($1)) and e.at > now() - interval '1 hour'
                  limit $2) x) e

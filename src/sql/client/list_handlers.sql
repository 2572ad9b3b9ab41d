-- Handlers that are known, served or wanted, by name. The table of runs that are over has a check on its status,
-- so only the open ones are read.
with served as (
    select h.name, array_agg(distinct w.name order by w.name) as workers
    from watchbell.worker_status w, unnest(w.handlers) h (name)
    where w.state in ('starting', 'running')
    group by h.name
), waiting as (
    select r.handler as name, count(*) as runs, min(r.run_at) as oldest
    from watchbell.runs r
    where r.status = 'pending' and r.run_at <= now()
    group by r.handler
), wanted as (
    select s.handler as name, count(*) as schedules
    from watchbell.schedules s
    where s.status in ('pending', 'normal') and s.paused_at is null
    group by s.handler
)
select name, coalesce(s.workers, '{}') as workers, coalesce(t.schedules, 0) as schedules, coalesce(w.runs, 0) as waiting,
    case when isfinite(w.oldest) then now() - w.oldest end as oldest_waits_for, k.first_seen_at, k.last_seen_at
from watchbell.handlers k
     full join served s using (name)
     full join waiting w using (name)
     full join wanted t using (name)
order by name
limit 10000

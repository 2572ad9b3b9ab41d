-- Fire, of schedules with target all: the workers that match now, each with the open runs that it has of the schedule.
select s.id, m.worker, o.total, o.waiting, o.runs
from watchbell.schedules s
cross join lateral (
    select m as worker from watchbell.members(s, coalesce($2::timestamptz, clock_timestamp())) m
) m
cross join lateral (
    select count(*)::integer as total, (count(*) filter (where r.status = 'pending'))::integer as waiting,
           coalesce(array_agg(r.id order by r.id), '{}') as runs
    from watchbell.runs_live r
    where r.schedule_id = s.id and r.target = 'worker=' || m.worker and r.trigger in ('schedule', 'catch_up')
) o
where s.id = any ($1::bigint[])
order by s.id, m.worker

-- Fire, second: the open runs of the locked schedules.
select r.schedule_id, count(*)::integer as total, (count(*) filter (where r.status = 'pending'))::integer as waiting
from watchbell.runs_live r
where r.schedule_id = any ($1::bigint[]) and r.trigger in ('schedule', 'catch_up', 'keep_alive')
group by r.schedule_id

-- Fire, of schedules that are kept alive: their copies, each with what its run came to; and open runs that are no copy's
-- yet, as the schedule was not kept alive when they began.
select c.schedule_id, c.copy, c.run_id, c.restart_at, c.restarts, r.id is not null as open, f.finished_at,
       (extract(epoch from f.finished_at - f.started_at) * 1000)::bigint as lived_ms
from watchbell.copies c
left join watchbell.runs_live r on r.id = c.run_id
left join watchbell.runs_finished f on f.id = c.run_id and r.id is null
where c.schedule_id = any ($1::bigint[])
union all
select r.schedule_id, null, r.id, null, 0, true, null, null
from watchbell.runs_live r
where r.schedule_id = any ($1::bigint[]) and r.trigger in ('schedule', 'catch_up', 'keep_alive')
  and not exists (select from watchbell.copies c where c.schedule_id = r.schedule_id and c.run_id = r.id)
order by 1, 2, 3

-- Fire, for overlap = cancel_running: ask the open runs to stop.
insert into watchbell.worker_requests (request, run_id, reason, requested_by)
select 'cancel', r.id, 'a newer fire time of its schedule is due', 'watchbell'
from watchbell.runs_live r
where r.schedule_id = any ($1::bigint[]) and r.trigger in ('schedule', 'catch_up', 'keep_alive')
  and not exists (select from watchbell.worker_requests q where q.run_id = r.id)

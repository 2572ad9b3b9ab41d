-- Fire: ask these runs to stop, with the reason.
insert into watchbell.worker_requests (request, run_id, reason, requested_by)
select 'cancel', r.id, $2, 'watchbell'
from watchbell.runs_live r
where r.id = any ($1::bigint[])
  and not exists (select from watchbell.worker_requests q where q.run_id = r.id)

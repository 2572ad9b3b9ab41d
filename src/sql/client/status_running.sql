-- What runs, the longest first.
select r.id, r.handler, r.queue, r.schedule_name, r.attempt, r.max_attempts, r.started_at, r.running_for, r.times_out_at,
    r.worker_id, r.worker
from watchbell.running r
order by r.started_at, r.id
limit $1

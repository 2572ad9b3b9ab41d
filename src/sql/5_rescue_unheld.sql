-- Rescue, of a worker's own: what the database says it runs. The worker compares that with what it holds.
select r.id, r.fence, r.claimed_by, r.attempt, r.max_attempts, r.crashes, r.retry::text, r.schedule_id,
       r.concurrency_key, r.handler, r.queue,
       exists (select from watchbell.worker_requests q where q.run_id = r.id) as cancelled
from watchbell.runs_live r
where r.claimed_by = $1

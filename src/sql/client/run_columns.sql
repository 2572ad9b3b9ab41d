-- A whole run for people; times are kept inside the years that a client can represent.
select r.id, r.status, r.handler, r.payload::text as payload, r.queue, r.priority, r.trigger,
    least(greatest(r.run_at, '0001-01-01 00:00Z'), '9999-12-31 00:00Z') as run_at,
    r.created_at, r.created_by, r.started_at, r.finished_at, r.attempt, r.max_attempts, r.crashes,
    r.claimed_by, r.fence, r.unique_key, r.concurrency_key, r.target, coalesce(r.tags, '{}') as tags,
    r.schedule_id, r.schedule_name, r.fire_at, r.retry_of, r.cancel_requested_at, r.error
from watchbell.runs r

-- Queues and what waits in them, by name.
select q.queue, q.paused_at, q.paused_by, q.pause_note, q.ready, q.later, q.running, q.capped, q.oldest_ready_at,
    q.oldest_waits_for
from watchbell.queue_status q
order by q.queue
limit 10000

-- Backfill that the database refuses to expand: it is over, with the reason.
with q as (
    update watchbell.worker_requests q set handled_at = clock_timestamp()
    where q.backfill_id = $1 and q.handled_at is null
)
update watchbell.backfills b set status = 'failed', error = $2, runs = 0, finished_at = clock_timestamp()
where b.id = $1 and b.status = 'pending'

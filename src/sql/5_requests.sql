-- Requests that nobody has handled yet, with the claimant of the run they are about.
select q.id, q.request, q.worker_id, q.run_id, q.reason, q.requested_by, r.status, r.claimed_by, q.backfill_id
from watchbell.worker_requests q
left join watchbell.runs_live r on r.id = q.run_id
where q.handled_at is null
order by q.id
limit 1000

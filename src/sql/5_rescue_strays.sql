-- Rescue, third: claims of this worker that it does not hold ($2): their reply was lost on the way.
select r.id, r.fence, r.attempt, r.max_attempts, r.crashes, r.schedule_id, r.concurrency_key, r.inner_key,
       r.handler, r.queue, r.schedule_name
from watchbell.runs_live r
where r.claimed_by = $1 and not r.id = any ($2::bigint[])
order by r.id
limit 1000

-- Rescue, second: runs whose claimant is not a live worker. Also a claim that committed only after its
-- worker was declared dead; hence every pass looks again for some minutes after a death.
select r.id, r.fence, r.claimed_by, r.attempt, r.max_attempts, r.crashes, r.retry::text, r.schedule_id,
       r.concurrency_key, r.handler, r.queue,
       exists (select from watchbell.worker_requests q where q.run_id = r.id) as cancelled,
       r.inner_key, coalesce(r.callback_url, r.notify_channel) is not null as calls_back,
       r.schedule_name,
       exists (select from watchbell.workers w where w.id = r.claimed_by and w.alone <> r.id) as spared
from watchbell.runs_live r
where r.claimed_by is not null
  and not exists (select from watchbell.workers w
                  where w.id = r.claimed_by and w.state in ('starting', 'running', 'draining'))
order by r.id
limit 1000

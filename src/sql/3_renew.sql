-- Renew: one statement a second keeps the lease of all runs of this worker, and answers with hints:
-- what is due, what comes next, who is late, who asked for something. No row: we were declared dead.
with recursive me as (
    update watchbell.workers w
    set heartbeat_at = t.now, lease_until = t.now + make_interval(secs => $2::bigint / 1000.0),
        state = case when $4 then 'draining' when w.state = 'starting' then 'running' else w.state end,
        presence = $3
    from (select coalesce($6::timestamptz, clock_timestamp()) as now) t
    where w.id = $1 and w.state in ('starting', 'running', 'draining')
    returning w.id, t.now
), lanes (queue, priority) as (
    (select r.queue, r.priority from watchbell.runs_live r
     where r.concurrency_key is null order by r.queue, r.priority limit 1)
    union all
    select n.queue, n.priority
    from lanes l
    cross join lateral (
        select r.queue, r.priority from watchbell.runs_live r
        where r.concurrency_key is null and (r.queue, r.priority) > (l.queue, l.priority)
        order by r.queue, r.priority limit 1
    ) n
)
select me.now,
       -- a due run among the first 100 of a lane, or more entries than that in front of it
       exists (select from lanes l cross join lateral (
                   select bool_or(x.status = 'pending') as due, count(*) as n
                   from (select r.status from watchbell.runs_live r
                         where r.queue = l.queue and r.priority = l.priority and r.concurrency_key is null
                           and r.run_at <= me.now
                         order by r.run_at, r.id limit 100) x) d
               where (d.due or d.n = 100) and ($5::text[] is null or l.queue = any ($5::text[]))) as runs_due,
       exists (select from watchbell.runs_live r where r.concurrency_key is not null) as keyed,
       exists (select from watchbell.schedules s where s.paused_at is null and s.wake_at <= me.now) as schedules_due,
       least(
           (select min(s.wake_at) from watchbell.schedules s
            where s.paused_at is null and s.wake_at > me.now and s.wake_at < 'infinity'),
           (select min(d.run_at) from lanes l cross join lateral (
                select r.run_at from watchbell.runs_live r
                where r.queue = l.queue and r.priority = l.priority and r.concurrency_key is null and r.run_at > me.now
                order by r.run_at limit 1) d)) as next_at,
       exists (select from watchbell.workers w
               where w.state in ('starting', 'running', 'draining') and w.id <> me.id
                 and (w.lease_until < me.now or w.heartbeat_at < me.now - make_interval(secs => 1.2))) as peer_late,
       exists (select from watchbell.workers w
               where w.state = 'dead' and w.ended_at > me.now - interval '5 minutes') as recently_dead,
       exists (select from watchbell.worker_requests q where q.handled_at is null) as requests,
       exists (select from watchbell.schedules s where s.paused_until <= me.now) as resumes,
       -- another mark: some watch is new, edited, planned or gone
       (select bit_xor(hashint8extended(w.id, w.xmin::text::bigint)) from watchbell.watches w) as watches
from me

-- Limited claim, second: give the queue's key to due runs that came without it, and count those that run
-- already. When every one that is visible was taken, all that a claim by the lanes can have seen before the
-- queue became limited are counted, and the epoch says so.
with q as materialized (
    select q.name, q.limit_epoch from watchbell.queues q where q.name = $1 and q.limited
), seen as materialized (
    (select r.id from q join watchbell.runs_live r on r.queue = q.name
     where r.concurrency_key is null and r.run_at <= coalesce($2::timestamptz, now())
     order by r.priority, r.run_at, r.id limit 5000)
    union all
    (select r.id from q join watchbell.runs_live r on r.queue = q.name
     where r.concurrency_key not like 'queue:%' limit 5000)
), free as materialized (
    select r.id from watchbell.runs_live r
    where r.id in (select s.id from seen s) and (r.concurrency_key is null or r.concurrency_key not like 'queue:%')
    order by r.id
    for no key update skip locked
), adopted as (
    update watchbell.runs_live r
    set inner_key = r.concurrency_key, concurrency_key = 'queue:' || r.queue
    from free f where r.id = f.id
    returning r.status
)
update watchbell.limits l
set running = l.running + a.running,
    epoch = case when s.n < 5000 and a.n = s.n then q.limit_epoch else l.epoch end
from q, (select count(*) as n, (count(*) filter (where a.status = 'running'))::integer as running from adopted a) a,
     (select count(*) as n from seen) s
where l.key = 'queue:' || q.name and (a.n > 0 or l.epoch <> q.limit_epoch)

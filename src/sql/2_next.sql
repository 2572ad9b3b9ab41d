-- Next: how long until the next schedule or run comes due, in microseconds; null when nothing is planned.
with recursive t as materialized (
    select coalesce($1::timestamptz, clock_timestamp()) as now
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
select (extract(epoch from least(
            (select min(s.wake_at) from watchbell.schedules s
             where s.paused_at is null and s.wake_at > t.now and s.wake_at < 'infinity'),
            (select min(d.run_at) from lanes l cross join lateral (
                 select r.run_at from watchbell.runs_live r
                 where r.queue = l.queue and r.priority = l.priority and r.concurrency_key is null and r.run_at > t.now
                 order by r.run_at limit 1) d)) - t.now) * 1000000)::bigint
from t

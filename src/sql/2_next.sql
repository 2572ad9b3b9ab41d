-- Next: how long until the next schedule or run comes due, in microseconds; null when nothing is planned. Second:
-- the same until the rate of a queue in which runs wait has its next start, and a millisecond for rounding.
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
                 order by r.run_at limit 1) d)) - t.now) * 1000000)::bigint,
       (select (extract(epoch from min(x.at) - t.now) * 1000000)::bigint
        from (select l.full_at + interval '1 ms'
                     - make_interval(secs => (extract(epoch from q.rate_period) * (q.rate_limit - 1) / q.rate_limit)::float8) as at
              from watchbell.queues q join watchbell.limits l on l.key = 'queue:' || q.name
              where q.rate_limit is not null and q.paused_at is null
                and (exists (select from watchbell.runs_live r where r.concurrency_key = l.key and r.status = 'pending')
                     or exists (select from watchbell.runs_live r
                                where r.queue = q.name and r.concurrency_key is null and r.run_at <= t.now))) x
        where x.at > t.now)
from t

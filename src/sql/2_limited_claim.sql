-- Limited claim, third: as many runs of the queue as it has room and starts for. The row in `limits` is locked.
-- Strict order: the run that was started last goes first until it is over, then the least id that is due.
-- A rate: full_at is when the bucket is full; a start moves it on by a period's nth part, rounded up.
with t as materialized (
    select coalesce($6::timestamptz, clock_timestamp()) as now
), q as materialized (
    select l.key, $1::text as name, coalesce(q.fifo, false) as fifo, q.rate_limit, p.period_us, d.debt_us, l.holder,
           least($4::bigint,
                 case when not coalesce(q.limited, false) then $4
                      when q.fifo then 1 else coalesce(q.max_running, 1000000) end
                     - case when coalesce(q.limited, false) then l.running else 0 end,
                 coalesce(trunc((p.period_us - d.debt_us) * q.rate_limit / p.period_us)::bigint, $4)) as free
    from t, watchbell.limits l
    left join watchbell.queues q on q.name = $1
    cross join lateral (select extract(epoch from q.rate_period) * 1000000 as period_us) p
    cross join lateral (
        select least(greatest(extract(epoch from l.full_at - t.now) * 1000000, 0), p.period_us) as debt_us
        from (select coalesce($6::timestamptz, clock_timestamp()) as now) t) d
    where l.key = 'queue:' || $1 and q.paused_at is null
      and (not coalesce(q.limited, false) or l.epoch = q.limit_epoch)
      and (select w.state = 'running' and w.lease_until > coalesce($6::timestamptz, clock_timestamp())
           from watchbell.workers w where w.id = $5)
), head as materialized (
    select coalesce(
        (select r.id from watchbell.runs_live r where r.id = q.holder and r.concurrency_key = q.key),
        (select r.id from watchbell.runs_live r
         where r.concurrency_key = q.key and r.concurrency_key like 'queue:%'
           and (r.run_at <= (select t.now from t) or r.attempt > 0)
         order by r.id limit 1)) as id
    from q where q.fifo and q.free > 0
), c as materialized (
    select r.id, r.inner_key, r.n
    from q cross join lateral (
        select r.id, r.inner_key, r.priority::bigint as n, r.run_at
        from watchbell.runs_live r
        where r.concurrency_key = q.key
          and r.run_at <= (select t.now from t)
          and r.status = 'pending'
          and r.handler = any ($2::text[])
          and (r.target is null or string_to_array(r.target, ',') <@ $3::text[])
          and (r.inner_key is null or exists (select from watchbell.limits i where i.key = r.inner_key and i.running < i.max_running))
        order by r.priority, r.run_at, r.id
        limit q.free
        for no key update skip locked
    ) r
    where not q.fifo and q.free > 0
    union all
    select h.id, h.inner_key, 0 from (
        select r.id, r.inner_key
        from watchbell.runs_live r
        where r.id = (select h.id from head h)
          and r.run_at <= (select t.now from t)
          and r.status = 'pending'
          and r.handler = any ($2::text[])
          and (r.target is null or string_to_array(r.target, ',') <@ $3::text[])
          and not exists (select from watchbell.runs_live o
                          where o.queue = $1 and o.concurrency_key is null and o.id < r.id and r.attempt = 0
                            and o.run_at <= (select t.now from t))
        for no key update of r skip locked
    ) h
), inner_free as materialized (
    select i.key, i.max_running - i.running as free
    from watchbell.limits i
    where i.key in (select c.inner_key from c) and i.running < i.max_running
    for no key update of i skip locked
), taken as materialized (
    select c.id, c.inner_key
    from (select c.id, c.inner_key, row_number() over (partition by c.inner_key order by c.n, c.id) as n from c) c
    left join inner_free i on i.key = c.inner_key
    where c.inner_key is null or c.n <= i.free
), counted as (
    update watchbell.limits l
    set running = l.running + x.n,
        holder = case when q.fifo and l.key = q.key then (select max(k.id) from taken k) else l.holder end,
        full_at = case when q.rate_limit is not null and l.key = q.key
            then t.now + make_interval(secs => ((coalesce(q.debt_us, 0) + ceil(x.n * q.period_us / q.rate_limit)) / 1000000)::float8)
            else l.full_at end
    from t, q, (select q.key, count(*)::integer as n from taken, q group by q.key
                union all
                select k.inner_key, count(*)::integer from taken k where k.inner_key is not null group by k.inner_key) x
    where l.key = x.key
), r as (
    update watchbell.runs_live r
    set status = 'running', claimed_by = $5, fence = r.fence + 1, attempt = r.attempt + 1, started_at = (select t.now from t)
    from taken k
    where r.id = k.id
    returning r.id, r.fence, r.claimed_by, r.attempt, r.max_attempts, r.crashes, r.priority, r.run_at, r.started_at,
              r.handler, r.queue, r.payload::text, (extract(epoch from r.timeout) * 1000)::bigint as timeout_ms,
              r.retry::text, r.start_deadline, r.schedule_id, r.schedule_name, r.fire_at, r.trigger, r.concurrency_key,
              r.inner_key, coalesce(r.callback_url, r.notify_channel) is not null as calls_back
)
select r.id, r.fence, r.claimed_by, r.attempt, r.max_attempts, r.crashes, r.priority, r.run_at, r.started_at,
       r.handler, r.queue, r.payload, r.timeout_ms, r.retry, r.start_deadline, r.schedule_id, r.schedule_name,
       r.fire_at, r.trigger, r.concurrency_key, r.inner_key, r.calls_back
from r

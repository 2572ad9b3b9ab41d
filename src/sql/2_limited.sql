-- Limited queues that may have something to start, and whether some of their runs have not got the queue's key
-- yet. Passed over: those without room, without a start left of their rate, or whose head waits for its retry.
with recursive t as materialized (
    select coalesce($2::timestamptz, clock_timestamp()) as now
), keys (key) as (
    (select r.concurrency_key from watchbell.runs_live r
     where r.concurrency_key > 'queue:' and r.concurrency_key < 'queue;' order by r.concurrency_key limit 1)
    union all
    select (select r.concurrency_key from watchbell.runs_live r
            where r.concurrency_key > k.key and r.concurrency_key < 'queue;' order by r.concurrency_key limit 1)
    from keys k where k.key is not null
)
select q.name, l.key is not null as known, n.new
from t
cross join watchbell.queues q
left join watchbell.limits l on l.key = 'queue:' || q.name
cross join lateral (
    select q.limited and (
        l.epoch is distinct from q.limit_epoch
        or exists (select from watchbell.runs_live r
                   where r.queue = q.name and r.concurrency_key is null and r.run_at <= t.now)
        or exists (select from watchbell.runs_live r
                   where r.queue = q.name and r.concurrency_key not like 'queue:%')) as new
) n
where q.paused_at is null and ($1::text[] is null or q.name = any ($1::text[]))
  and (n.new
       or 'queue:' || q.name in (select k.key from keys k)
          and exists (select from watchbell.runs_live r
                      where r.concurrency_key = 'queue:' || q.name and r.run_at <= t.now and r.status = 'pending'))
  and (not q.limited or l.epoch is distinct from q.limit_epoch
       or l.running < case when q.fifo then 1 else coalesce(q.max_running, 1000000) end
          and (q.rate_limit is null or l.full_at is null
               or extract(epoch from l.full_at - t.now) * q.rate_limit
                  <= extract(epoch from q.rate_period) * (q.rate_limit - 1))
          and not (q.fifo and exists (
                  select from watchbell.runs_live r
                  where r.id = l.holder and r.concurrency_key = l.key and r.run_at > t.now)))

-- Claim of runs with a concurrency key: walk the distinct keys from a cursor (a loose index scan, at most
-- 1,000 keys), lock the limits with room, take as many runs of each as it has room for.
-- The cursor moves on past the last key that was served, or reached, when the limit or the walk was too short
-- for all; so keys take turns. Always returns at least one row: the next cursor.
with recursive keys (key, n) as (
    (select r.concurrency_key, 1 from watchbell.runs_live r
     where r.concurrency_key is not null and r.concurrency_key > $1 order by r.concurrency_key limit 1)
    union all
    select (select r.concurrency_key from watchbell.runs_live r
            where r.concurrency_key is not null and r.concurrency_key > k.key order by r.concurrency_key limit 1), k.n + 1
    from keys k where k.key is not null and k.n < 1000
), slots as materialized (
    select l.key, l.max_running - l.running as free
    from keys k join watchbell.limits l on l.key = k.key
    where l.running < l.max_running and k.key not like 'queue:%'
      and (select w.state = 'running' and w.lease_until > coalesce($7::timestamptz, clock_timestamp())
           from watchbell.workers w where w.id = $6)
    limit $5
    for no key update of l skip locked
), c as materialized (
    select r.id, s.key
    from slots s
    cross join lateral (
        select r.id
        from watchbell.runs_live r
        where r.concurrency_key = s.key
          and r.run_at <= coalesce($7::timestamptz, now())
          and r.status = 'pending'
          and ($2::text[] is null or r.queue = any ($2::text[]))
          and not exists (select from watchbell.queues q where q.name = r.queue and (q.paused_at is not null or q.limited))
          and r.handler = any ($3::text[])
          and (r.target is null or string_to_array(r.target, ',') <@ $4::text[])
        order by r.priority, r.run_at, r.id
        limit s.free
        for no key update skip locked
    ) r
    limit $5
), taken as (
    update watchbell.limits l set running = l.running + x.n
    from (select key, count(*)::integer as n from c group by key) x
    where l.key = x.key
), r as (
    update watchbell.runs_live r
    set status = 'running', claimed_by = $6, fence = r.fence + 1, attempt = r.attempt + 1,
        started_at = coalesce($7::timestamptz, clock_timestamp())
    from c
    where r.id = c.id
    returning r.id, r.fence, r.claimed_by, r.attempt, r.max_attempts, r.crashes, r.priority, r.run_at, r.started_at,
              r.handler, r.queue, r.payload::text, (extract(epoch from r.timeout) * 1000)::bigint as timeout_ms,
              r.retry::text, r.start_deadline, r.schedule_id, r.schedule_name, r.fire_at, r.trigger, r.concurrency_key,
              r.inner_key, coalesce(r.callback_url, r.notify_channel) is not null as calls_back
)
select r.id, r.fence, r.claimed_by, r.attempt, r.max_attempts, r.crashes, r.priority, r.run_at, r.started_at,
       r.handler, r.queue, r.payload, r.timeout_ms, r.retry, r.start_deadline, r.schedule_id, r.schedule_name,
       r.fire_at, r.trigger, r.concurrency_key, r.inner_key, r.calls_back, x.cursor
from (select case when (select count(*) from c) >= $5 then (select max(c.key) from c)
                  when max(k.n) >= 1000 then max(k.key) end as cursor
      from keys k) x
left join r on true

-- Claim: take due pending runs of the given lanes, best priority first, oldest first.
-- A lane is one (queue, priority); (from_at, from_id) is its low-water mark, (to_at, to_id) a sweep's ceiling.
-- MATERIALIZED: a bare IN (SELECT ... LIMIT ... FOR UPDATE) can take more rows than its limit.
with c as materialized (
    select r.id
    from (select l.queue, l.priority, l.from_at, l.from_id, l.to_at, l.to_id
          from unnest($1::text[], $2::smallint[], $3::timestamptz[], $4::bigint[], $5::timestamptz[], $6::bigint[])
               as l (queue, priority, from_at, from_id, to_at, to_id)
          -- once a lane, not once a row: its limit may be younger than the worker's knowledge of the lane
          where (select q.limited from watchbell.queues q where q.name = l.queue) is not true) l
    cross join lateral (
        select r.id
        from watchbell.runs_live r
        where r.queue = l.queue and r.priority = l.priority and r.concurrency_key is null
          and (r.run_at, r.id) >= (l.from_at, l.from_id)
          and (r.run_at, r.id) <= (l.to_at, l.to_id)
          and r.run_at <= coalesce($11::timestamptz, now())
          and r.status = 'pending'
          and r.handler = any ($7::text[])
          and (r.target is null or string_to_array(r.target, ',') <@ $8::text[])
        order by r.run_at, r.id
        limit $9
        for no key update skip locked
    ) r
    where (select w.state = 'running' and w.lease_until > coalesce($11::timestamptz, clock_timestamp())
           from watchbell.workers w where w.id = $10)
    limit $9
)
update watchbell.runs_live r
set status = 'running', claimed_by = $10, fence = r.fence + 1, attempt = r.attempt + 1,
    started_at = coalesce($11::timestamptz, clock_timestamp())
from c
where r.id = c.id
returning r.id, r.fence, r.claimed_by, r.attempt, r.max_attempts, r.crashes, r.priority, r.run_at, r.started_at,
          r.handler, r.queue, r.payload::text, (extract(epoch from r.timeout) * 1000)::bigint, r.retry::text,
          r.start_deadline, r.schedule_id, r.schedule_name, r.fire_at, r.trigger, r.concurrency_key,
          r.inner_key, coalesce(r.callback_url, r.notify_channel) is not null

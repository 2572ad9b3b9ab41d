-- Finish: record what became of many runs in one statement, each guarded by its id, fence and worker.
-- Terminal runs move to history, the others go back to pending; schedules and limits follow.
-- Returns the ids that were accepted; one that is missing was superseded.
with t as materialized (
    select coalesce($11::timestamptz, clock_timestamp()) as now
), f as materialized (
    select f.id, f.fence, f.claimed_by, f.status, f.delay_ms, f.unstarted, f.crashed, f.kind, f.message, f.waited_us, f.ord
    from unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[], $5::bigint[], $6::boolean[], $7::boolean[],
                $8::text[], $9::text[], $10::bigint[])
         with ordinality as f (id, fence, claimed_by, status, delay_ms, unstarted, crashed, kind, message, waited_us, ord)
), gone as (
    delete from watchbell.runs_live r
    using f
    where r.id = f.id and r.fence = f.fence and r.claimed_by = f.claimed_by and f.status <> 'pending'
    returning r.id, r.run_at, r.created_at,
              case when not f.unstarted then r.started_at + make_interval(secs => f.waited_us / 1e6) end as started_at,
              r.fence, r.claimed_by, r.attempt - f.unstarted::integer as attempt, r.priority, r.max_attempts,
              r.crashes + f.crashed::integer as crashes, f.status, r.trigger, r.queue, r.handler, r.payload, r.timeout,
              r.retry, r.start_deadline, r.unique_key, r.concurrency_key, r.target, r.tags,
              coalesce(f.message, case when f.status <> 'normal' then r.error end) as error, r.schedule_id,
              r.schedule_name, r.fire_at, r.retry_of, r.created_by, r.inner_key, r.callback_url, r.notify_channel,
              f.ord
), back as (
    update watchbell.runs_live r
    set status = 'pending', claimed_by = null, started_at = null,
        attempt = r.attempt - f.unstarted::integer, crashes = r.crashes + f.crashed::integer,
        run_at = case when f.delay_ms is null then r.run_at else t.now + make_interval(secs => f.delay_ms / 1000.0) end,
        error = coalesce(f.message, r.error)
    from f, t
    where r.id = f.id and r.fence = f.fence and r.claimed_by = f.claimed_by and f.status = 'pending'
    returning r.id, r.attempt, r.concurrency_key, r.inner_key
), kept as (
    insert into watchbell.runs_finished (
        id, run_at, created_at, started_at, finished_at, fence, claimed_by, attempt, priority, max_attempts, crashes,
        status, trigger, queue, handler, payload, timeout, retry, start_deadline, unique_key, concurrency_key, target,
        tags, error, schedule_id, schedule_name, fire_at, retry_of, created_by,
        callback_url, notify_channel)
    select g.id, g.run_at, g.created_at, g.started_at, t.now, g.fence, g.claimed_by, g.attempt, g.priority,
           g.max_attempts, g.crashes, g.status, g.trigger, g.queue, g.handler, g.payload, g.timeout, g.retry,
           g.start_deadline, g.unique_key,
           case when g.concurrency_key like 'queue:%' then g.inner_key else g.concurrency_key end, g.target, g.tags, g.error, g.schedule_id,
           g.schedule_name, g.fire_at, g.retry_of, g.created_by, g.callback_url, g.notify_channel
    from gone g, t
), accepted as (
    select g.id, g.attempt, g.concurrency_key, g.inner_key from gone g
    union all select b.id, b.attempt, b.concurrency_key, b.inner_key from back b
), errors as (
    insert into watchbell.run_errors (run_id, attempt, fence, worker_id, kind, message, at)
    select f.id, a.attempt, f.fence, f.claimed_by, f.kind, f.message, t.now
    from f join accepted a on a.id = f.id cross join t
    where f.kind is not null
), limits as (
    update watchbell.limits l set running = greatest(l.running - x.n, 0)
    from (select k.key, count(*)::integer as n
          from accepted a cross join lateral (values (a.concurrency_key), (a.inner_key)) k (key)
          where a.concurrency_key is not null and k.key is not null group by k.key) x
    where l.key = x.key
), ended as (
    -- per schedule: the last run of the batch speaks, failures are counted from the last success on
    select g.schedule_id, max(g.started_at) as started_at,
           (array_agg(g.status order by g.ord desc))[1] as status,
           (array_agg(g.started_at order by g.ord desc))[1] as last_started_at,
           bool_or(g.status = 'normal') as success,
           count(*) filter (where g.status = 'failed' and g.ord > g.last_success) as failures,
           bool_or(g.trigger in ('schedule', 'keep_alive')) as scheduled
    from (select gone.schedule_id, gone.started_at, gone.status, gone.trigger, gone.ord,
                 coalesce(max(gone.ord) filter (where gone.status = 'normal')
                          over (partition by gone.schedule_id), 0) as last_success
          from gone where gone.schedule_id is not null) g
    group by g.schedule_id
), planned as (
    -- fixed_delay: the next fire time is counted from this end, once, unless an edit has planned anew; it lies
    -- behind the last one even if the clock was set back, or its key in `fires` would be taken
    select e.schedule_id,
           case when n.at >= s.ends_at or s.fires_count >= s.max_fires then 'infinity'
                -- what is kept alive or runs on every worker is planned afresh: the fire stage sees which run ended
                when s.keep_alive or s.target ~ '^all(:|$)' then '-infinity' else n.at end as wake_at
    from ended e
    cross join t
    join watchbell.schedules s on s.id = e.schedule_id
    cross join lateral (
        select greatest(t.now + make_interval(secs => extract(epoch from s.fixed_delay)::double precision),
                        s.last_fire_at + interval '1 microsecond') as at
    ) n
    where e.scheduled and s.kind = 'fixed_delay' and s.status = 'normal' and (s.wake_at = 'infinity' or s.keep_alive)
), schedules as (
    update watchbell.schedules s
    set last_started_at = greatest(s.last_started_at, e.started_at),
        last_finished_at = t.now,
        last_status = e.status,
        last_duration = coalesce(t.now - e.last_started_at, s.last_duration),
        last_success_at = case when e.success then t.now else s.last_success_at end,
        consecutive_failures = e.failures + case when e.success then 0 else s.consecutive_failures end,
        wake_at = coalesce(p.wake_at, s.wake_at),
        status = case p.wake_at when 'infinity' then 'done' when '-infinity' then 'pending' else s.status end
    from ended e
    left join planned p on p.schedule_id = e.schedule_id
    cross join t
    where s.id = e.schedule_id
)
select a.id from accepted a

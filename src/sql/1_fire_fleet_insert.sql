-- Fire, of schedules with target all: one row in `fires` per fire time, and its runs, each aimed at one worker. As in
-- 1_fire_insert.sql the key of `fires` is the proof: a fire time that is already there brings no run.
with p as materialized (
    select p.schedule_id, p.fire_at, p.disposition, p.workers, p.worker, p.run_at, p.start_deadline, p.trigger,
           p.serialized, nextval('watchbell.runs_live_id_seq') as run_id
    from unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::integer[], $5::integer[], $6::timestamptz[],
                $7::timestamptz[], $8::text[], $9::boolean[])
         as p (schedule_id, fire_at, disposition, workers, worker, run_at, start_deadline, trigger, serialized)
), f as (
    insert into watchbell.fires (schedule_id, fire_at, disposition, run_id, runs, workers, decided_at)
    select p.schedule_id, p.fire_at, p.disposition, min(p.run_id), count(*)::integer, p.workers,
           coalesce($10::timestamptz, clock_timestamp())
    from p group by p.schedule_id, p.fire_at, p.disposition, p.workers
    on conflict (schedule_id, fire_at) do nothing
    returning schedule_id, fire_at
), l as (
    insert into watchbell.limits (key, max_running)
    select distinct on (1) coalesce(s.concurrency_key, 'schedule:' || s.id || ':' || p.worker), s.max_running
    from p join watchbell.schedules s on s.id = p.schedule_id
    where p.serialized or s.concurrency_key is not null
    order by 1
    on conflict (key) do update set max_running = excluded.max_running
    where limits.key like 'schedule:%' and limits.max_running <> excluded.max_running
), r as (
    insert into watchbell.runs_live (
        id, run_at, priority, max_attempts, trigger, queue, handler, payload, timeout, retry, start_deadline,
        concurrency_key, target, tags, schedule_id, schedule_name, fire_at, created_by, callback_url, notify_channel)
    select p.run_id, p.run_at, s.priority, s.max_attempts, p.trigger, s.queue, s.handler, s.payload, s.timeout, s.retry,
           p.start_deadline,
           coalesce(s.concurrency_key, case when p.serialized then 'schedule:' || s.id || ':' || p.worker end),
           'worker=' || p.worker, nullif(s.tags, '{}'), s.id, s.name, p.fire_at, s.created_by, s.callback_url,
           s.notify_channel
    from f
    join p on p.schedule_id = f.schedule_id and p.fire_at = f.fire_at
    join watchbell.schedules s on s.id = p.schedule_id
    returning queue
), q as (
    insert into watchbell.queues (name) select distinct r.queue from r on conflict (name) do nothing
)
select count(*) from r

-- The functions about schedules and runs as in 0013, 0014 and 0016, with callbacks: schedule() and enqueue() take
-- them, a run of a schedule or a retry has those of its origin. enqueue_many() obeys max_pending. And a change of a
-- queue's limits or of a schedule's callbacks leaves a row in activity.

drop function watchbell.schedule;
drop function watchbell.enqueue;
drop function watchbell.enqueue_many;

create function watchbell.schedule(
    name text, handler text,
    cron text default null, fixed_delay interval default null, fixed_rate interval default null,
    run_at timestamptz default null, timezone text default 'UTC', payload jsonb default '{}',
    queue text default 'default', priority integer default 5, max_attempts integer default 3,
    retry jsonb default null, timeout interval default '1 hour', overlap text default 'allow',
    max_running integer default 1, misfire text default 'fire_once', misfire_grace interval default '60 s',
    catch_up_window interval default '1 day', catch_up_limit integer default 100,
    start_deadline interval default null, jitter interval default '0', dst text default 'once',
    pause_after_failures integer default null, concurrency_key text default null,
    first_fire text default 'after_period', starts_at timestamptz default null, ends_at timestamptz default null,
    max_fires bigint default null, target text default null, description text default null,
    owner text default null, runbook_url text default null, tags text[] default '{}', managed_by text default null,
    callback_url text default null, notify_channel text default null
) returns bigint language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    -- Refused here with the sentence of the row's own check: a cast to smallint would answer first.
    if priority not between 0 and 9 or max_attempts not between 1 and 100 then
        raise exception using errcode = '23514', schema = 'watchbell', table = 'schedules',
            column = case when priority between 0 and 9 then 'max_attempts' else 'priority' end,
            message = case when priority between 0 and 9
                then format('schedule "%s": max_attempts %s is out of range 1-100', watchbell.shown(name), max_attempts)
                else format('schedule "%s": priority %s is out of range 0-9 (0 runs first)', watchbell.shown(name), priority)
                end,
            hint = case when priority between 0 and 9 then '1 means that a failed run is not tried again.'
                        else 'The default is 5.' end;
    end if;
    insert into watchbell.schedules as s (name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload,
        queue, priority, max_attempts, retry, timeout, overlap, max_running, misfire, misfire_grace, catch_up_window,
        catch_up_limit, start_deadline, jitter, pause_after_failures, concurrency_key, first_fire, starts_at, ends_at,
        max_fires, target, description, owner, runbook_url, tags, managed_by, callback_url, notify_channel)
    values (schedule.name, schedule.cron, schedule.fixed_delay, schedule.fixed_rate, schedule.run_at, schedule.timezone,
        schedule.dst, schedule.handler, schedule.payload, schedule.queue, schedule.priority, schedule.max_attempts,
        schedule.retry, schedule.timeout, schedule.overlap, schedule.max_running, schedule.misfire,
        schedule.misfire_grace, schedule.catch_up_window, schedule.catch_up_limit, schedule.start_deadline,
        schedule.jitter, schedule.pause_after_failures, schedule.concurrency_key, schedule.first_fire,
        schedule.starts_at, schedule.ends_at, schedule.max_fires, schedule.target, schedule.description, schedule.owner,
        schedule.runbook_url, schedule.tags, schedule.managed_by, schedule.callback_url, schedule.notify_channel)
    on conflict on constraint schedules_name_key do update set
        cron = excluded.cron, fixed_delay = excluded.fixed_delay, fixed_rate = excluded.fixed_rate,
        run_at = excluded.run_at, timezone = excluded.timezone, dst = excluded.dst, handler = excluded.handler,
        payload = excluded.payload, queue = excluded.queue, priority = excluded.priority,
        max_attempts = excluded.max_attempts, retry = excluded.retry, timeout = excluded.timeout,
        overlap = excluded.overlap, max_running = excluded.max_running, misfire = excluded.misfire,
        misfire_grace = excluded.misfire_grace, catch_up_window = excluded.catch_up_window,
        catch_up_limit = excluded.catch_up_limit, start_deadline = excluded.start_deadline, jitter = excluded.jitter,
        pause_after_failures = excluded.pause_after_failures, concurrency_key = excluded.concurrency_key,
        first_fire = excluded.first_fire, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
        max_fires = excluded.max_fires, target = excluded.target, description = excluded.description,
        owner = excluded.owner, runbook_url = excluded.runbook_url, tags = excluded.tags,
        managed_by = excluded.managed_by, callback_url = excluded.callback_url,
        notify_channel = excluded.notify_channel
    where (s.cron, s.fixed_delay, s.fixed_rate, s.run_at, s.timezone, s.dst, s.handler, s.payload, s.queue, s.priority,
           s.max_attempts, s.retry, s.timeout, s.overlap, s.max_running, s.misfire, s.misfire_grace, s.catch_up_window,
           s.catch_up_limit, s.start_deadline, s.jitter, s.pause_after_failures, s.concurrency_key, s.first_fire,
           s.starts_at, s.ends_at, s.max_fires, s.target, s.description, s.owner, s.runbook_url, s.tags, s.managed_by,
           s.callback_url, s.notify_channel)
          is distinct from
          (excluded.cron, excluded.fixed_delay, excluded.fixed_rate, excluded.run_at, excluded.timezone, excluded.dst,
           excluded.handler, excluded.payload, excluded.queue, excluded.priority, excluded.max_attempts,
           excluded.retry, excluded.timeout, excluded.overlap, excluded.max_running, excluded.misfire,
           excluded.misfire_grace, excluded.catch_up_window, excluded.catch_up_limit, excluded.start_deadline,
           excluded.jitter, excluded.pause_after_failures, excluded.concurrency_key, excluded.first_fire,
           excluded.starts_at, excluded.ends_at, excluded.max_fires, excluded.target, excluded.description,
           excluded.owner, excluded.runbook_url, excluded.tags, excluded.managed_by, excluded.callback_url,
           excluded.notify_channel);
    return (select s.id from watchbell.schedules s where s.name = schedule.name);
end $$;
comment on function watchbell.schedule is 'Makes a schedule, or the one of this name the same; answers its number. What is not said has its default.';

create function watchbell.enqueue(
    handler text, payload jsonb default '{}', run_at timestamptz default null, queue text default 'default',
    priority integer default 5, unique_key text default null, max_attempts integer default 3,
    retry jsonb default null, timeout interval default '1 hour', start_deadline timestamptz default null,
    concurrency_key text default null, target text default null, tags text[] default null,
    callback_url text default null, notify_channel text default null
) returns bigint language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    run bigint;
begin
    loop
        insert into watchbell.runs as r (handler, payload, run_at, queue, priority, unique_key, max_attempts, retry,
            timeout, start_deadline, concurrency_key, target, tags, callback_url, notify_channel)
        values (enqueue.handler, enqueue.payload, coalesce(enqueue.run_at, now()), enqueue.queue, enqueue.priority,
            enqueue.unique_key, enqueue.max_attempts, enqueue.retry, enqueue.timeout, enqueue.start_deadline,
            enqueue.concurrency_key, enqueue.target, enqueue.tags, enqueue.callback_url, enqueue.notify_channel)
        returning r.id into run;
        exit when run is not null;
        select r.id into run from watchbell.runs_live r where r.unique_key = enqueue.unique_key;
        exit when run is not null;
        -- That one has ended meanwhile: insert after all.
    end loop;
    return run;
end $$;
comment on function watchbell.enqueue is 'Inserts a run, as soon as possible or at run_at; answers its number, or that of the open run with this unique_key.';

create function watchbell.enqueue_many(
    handler text, payloads jsonb[], run_at timestamptz default null, queue text default 'default',
    priority integer default 5, unique_keys text[] default null, max_attempts integer default 3,
    retry jsonb default null, timeout interval default '1 hour', start_deadline timestamptz default null,
    concurrency_key text default null, target text default null, tags text[] default null,
    callback_url text default null, notify_channel text default null
) returns setof bigint language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    n constant integer := coalesce(cardinality(payloads), 0);
    sample watchbell.runs;
    refusal watchbell.refusal;
    bad integer;
begin
    if n > 100000 or array_ndims(payloads) > 1 then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'runs', column = 'payload',
            message = format('payloads has %s entries, more than the limit of 100000', n),
            hint = 'Split it into several calls; in one transaction they are still all or none.';
    elsif unique_keys is not null and cardinality(unique_keys) <> n then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'runs', column = 'unique_key',
            message = format('unique_keys has %s entries, payloads %s', cardinality(unique_keys), n),
            hint = 'Give one key for each payload; NULL means none.';
    end if;
    sample.handler := handler;
    sample.payload := '{}';
    sample.status := 'pending';
    sample.queue := coalesce(queue, 'default');
    sample.priority := coalesce(priority, 5);
    sample.max_attempts := coalesce(max_attempts, 3);
    sample.run_at := coalesce(run_at, now());
    sample.retry := retry;
    sample.timeout := timeout;
    sample.start_deadline := start_deadline;
    sample.concurrency_key := concurrency_key;
    sample.target := target;
    sample.tags := tags;
    sample.callback_url := callback_url;
    sample.notify_channel := notify_channel;
    refusal := watchbell.run_refusal(sample);
    if refusal is null then
        select p.n into bad from unnest(payloads) with ordinality p (payload, n)
        where jsonb_typeof(p.payload) <> 'object' or octet_length(p.payload::text) > 1048576 order by p.n limit 1;
        if not found then
            select k.n into bad from unnest(unique_keys) with ordinality k (key, n)
            where octet_length(k.key) not between 1 and 256 order by k.n limit 1;
        end if;
        if found then
            sample.payload := payloads[bad];
            sample.unique_key := unique_keys[bad];
            refusal := watchbell.run_refusal(sample);
            refusal.sentence := format('entry %s: %s', bad, refusal.sentence);
        end if;
    end if;
    if refusal is not null then
        raise exception using message = refusal.sentence, hint = refusal.hint, errcode = refusal.code,
            schema = 'watchbell', table = 'runs', column = refusal."column";
    end if;

    insert into watchbell.queues (name) values (sample.queue) on conflict do nothing;
    perform watchbell.admit(sample.queue, n);
    if concurrency_key is not null then
        insert into watchbell.limits (key) values (concurrency_key) on conflict do nothing;
    end if;
    return query
    with p as materialized (
        select nextval('watchbell.runs_live_id_seq') as id, e.payload, unique_keys[e.n] as unique_key, e.n
        from unnest(payloads) with ordinality e (payload, n)
    ), r as (
        insert into watchbell.runs_live as r (id, handler, payload, queue, priority, run_at, max_attempts, retry,
            timeout, start_deadline, unique_key, concurrency_key, target, tags, callback_url, notify_channel)
        select p.id, sample.handler, coalesce(p.payload, '{}'), sample.queue, sample.priority, sample.run_at,
               sample.max_attempts, sample.retry, sample.timeout, sample.start_deadline, p.unique_key,
               sample.concurrency_key, watchbell.selector(sample.target), sample.tags,
               sample.callback_url, sample.notify_channel
        from p order by p.n
        on conflict (unique_key) where unique_key is not null do nothing
        returning r.id
    )
    select r.id from p left join r on r.id = p.id order by p.n;
end $$;
comment on function watchbell.enqueue_many is 'Inserts one run for each payload; answers their numbers in order, NULL where a run with the unique key is open.';

revoke execute on function watchbell.schedule, watchbell.enqueue, watchbell.enqueue_many from public;

create or replace function watchbell.run_now(name text, payload jsonb default null) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    wanted constant bigint := watchbell.schedule_id(name);
    s watchbell.schedules;
    key text;
    run bigint;
    problem text;
begin
    problem := case when jsonb_typeof(payload) <> 'object'
                    then format('payload must be a JSON object (got %s)', jsonb_typeof(payload))
                    else watchbell.length_problem('payload', payload::text, 1048576) end;
    if problem is not null then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'runs', column = 'payload',
            message = format('schedule "%s": %s', name, problem), hint = 'NULL takes the schedule''s own payload.';
    end if;
    select * into s from watchbell.schedules x where x.id = wanted;
    key := coalesce(s.concurrency_key,
                    case when s.overlap in ('queue_one', 'queue_all', 'cancel_running') then 'schedule:' || s.id end);
    if key is not null then
        insert into watchbell.limits (key, max_running) values (key, s.max_running) on conflict do nothing;
    end if;
    insert into watchbell.queues (name) values (s.queue) on conflict do nothing;
    insert into watchbell.runs_live as r (run_at, priority, max_attempts, trigger, queue, handler, payload, timeout,
        retry, start_deadline, concurrency_key, target, tags, schedule_id, schedule_name, callback_url, notify_channel)
    values (watchbell.clock(), s.priority, s.max_attempts, 'run_now', s.queue, s.handler,
        coalesce(run_now.payload, s.payload), s.timeout, s.retry, watchbell.clock() + s.start_deadline, key, s.target,
        nullif(s.tags, '{}'), s.id, s.name, s.callback_url, s.notify_channel)
    returning r.id into run;
    perform watchbell.note_change('run_now', 'schedule', s.name, s.id, null, jsonb_build_object('run_id', run));
    return run;
end $$;

-- NULL: an open run has its unique key. The start deadline, long past, is not taken over.
create or replace function watchbell.insert_retry(f watchbell.runs_finished) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    run bigint;
begin
    if f.concurrency_key is not null then
        insert into watchbell.limits (key) values (f.concurrency_key) on conflict do nothing;
    end if;
    insert into watchbell.queues (name) values (f.queue) on conflict do nothing;
    insert into watchbell.runs_live as r (run_at, priority, max_attempts, trigger, queue, handler, payload, timeout,
        retry, unique_key, concurrency_key, target, tags, schedule_id, schedule_name, fire_at, retry_of,
        callback_url, notify_channel)
    values (watchbell.clock(), f.priority, f.max_attempts, 'retry', f.queue, f.handler, f.payload, f.timeout, f.retry,
        f.unique_key, f.concurrency_key, f.target, f.tags, f.schedule_id, f.schedule_name, f.fire_at, f.id, f.callback_url,
        f.notify_channel)
    on conflict (unique_key) where unique_key is not null do nothing
    returning r.id into run;
    return run;
end $$;

create or replace function watchbell.expand_backfill(backfill_id bigint, version bigint, slots timestamptz[], problem text)
returns boolean language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    b watchbell.backfills;
    s watchbell.schedules;
    fresh timestamptz[];
    run_key text;
    made integer := 0;
    day date;
    present constant timestamptz := watchbell.instant();
begin
    select * into s from watchbell.schedules x
    where x.id = (select y.schedule_id from watchbell.backfills y where y.id = expand_backfill.backfill_id)
    for no key update skip locked;
    if not found and exists (select from watchbell.schedules x join watchbell.backfills y on y.schedule_id = x.id
                             where y.id = expand_backfill.backfill_id) then
        return null;
    end if;
    select * into b from watchbell.backfills x
    where x.id = expand_backfill.backfill_id and x.status = 'pending' for no key update skip locked;
    if not found then
        return true;
    elsif s.id is null then
        problem := 'the schedule has been deleted';
    elsif s.version <> expand_backfill.version then
        return false;
    elsif problem is null and cardinality(slots) > 1000 then
        problem := 'the range holds more than 1000 fire times; give it in parts';
    elsif problem is null and exists (select from unnest(slots) x where x < b.from_at or x > b.to_at or x is null) then
        problem := 'a fire time lies outside the range';
    end if;

    if problem is null then
        select coalesce(array_agg(x.at order by x.at), '{}') into fresh
        from (select distinct u as at from unnest(slots) u) x
        where not exists (select from watchbell.fires f
                          where f.schedule_id = s.id and f.fire_at = x.at and f.run_id is not null)
          and not exists (select from watchbell.runs_live r where r.schedule_id = s.id and r.fire_at = x.at)
          and not exists (select from watchbell.runs_finished r where r.schedule_id = s.id and r.fire_at = x.at);
    end if;
    if problem is null and not b.dry_run and fresh <> '{}' then
        for day in select distinct (u at time zone 'UTC')::date from unnest(fresh) u
                   where u > present - interval '30 days' order by 1 loop
            perform watchbell.make_day('fires', day);
        end loop;
        run_key := coalesce(s.concurrency_key, 'schedule:' || s.id);
        insert into watchbell.limits (key, max_running) values (run_key, s.max_running) on conflict do nothing;
        insert into watchbell.queues (name) values (s.queue) on conflict do nothing;
        with p as materialized (
            select nextval('watchbell.runs_live_id_seq') as id, u.at
            from (select x from unnest(fresh) x order by x) u (at)
        ), f as (
            insert into watchbell.fires (schedule_id, fire_at, disposition, run_id, decided_at)
            select s.id, p.at, 'backfilled', p.id, present from p where p.at > present - interval '30 days'
            on conflict (schedule_id, fire_at) do update set run_id = excluded.run_id
        )
        insert into watchbell.runs_live (id, run_at, priority, max_attempts, trigger, queue, handler, payload, timeout,
            retry, concurrency_key, target, tags, schedule_id, schedule_name, fire_at, created_by, callback_url,
            notify_channel)
        select p.id, present, 9, s.max_attempts, 'backfill', s.queue, s.handler, s.payload, s.timeout, s.retry, run_key,
               s.target, nullif(s.tags, '{}'), s.id, s.name, p.at, b.requested_by,
               s.callback_url, s.notify_channel
        from p;
        get diagnostics made = row_count;
    end if;
    update watchbell.backfills x
    set status = case when problem is null then 'normal' else 'failed' end, error = problem, fire_times = fresh,
        existing = cardinality(slots) - cardinality(fresh), runs = made, finished_at = present
    where x.id = b.id;
    update watchbell.worker_requests q set handled_at = clock_timestamp()
    where q.backfill_id = b.id and q.handled_at is null;
    return true;
end $$;

-- Arguments: the kind of object, and the column with its name.
create or replace function watchbell.record_change() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    present constant jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
    before jsonb := case when tg_op <> 'INSERT' then watchbell.written_by_people(to_jsonb(old)) end;
    after jsonb := case when tg_op <> 'DELETE' then watchbell.written_by_people(to_jsonb(new)) end;
    what text := lower(tg_op);
    was constant jsonb := before;
begin
    if tg_op = 'INSERT' and tg_argv[0] = 'queue' and after->>'paused_at' is not null then
        what := 'pause';
    elsif tg_op = 'INSERT' and tg_argv[0] = 'limit' and exists (
            select from watchbell.schedules s
            where s.concurrency_key = after->>'key' and s.max_running = (after->>'max_running')::integer) then
        return null; -- the first run of a schedule made it
    elsif tg_op = 'UPDATE' then
        what := case when before->>'paused_at' is null and after->>'paused_at' is not null then 'pause'
                     when before->>'paused_at' is not null and after->>'paused_at' is null then 'resume'
                     else what end;
        before := watchbell.differing(was, after);
        after := watchbell.differing(after, was);
        if before is null and after is null then
            return null;
        end if;
    end if;
    perform watchbell.note_change(what, tg_argv[0], present->>tg_argv[1], (present->>'id')::bigint,
        case when tg_op = 'UPDATE' then before else jsonb_strip_nulls(before) end,
        case when tg_op = 'UPDATE' then after else jsonb_strip_nulls(after) end);
    return null;
end $$;

create or replace function watchbell.written_by_people(stored jsonb) returns jsonb
language sql immutable strict set search_path = watchbell, pg_temp
return (
    select jsonb_object_agg(key, case when octet_length(value::text) <= 8192 then value
                                      else to_jsonb(format('(%s bytes)', octet_length(value::text))) end)
    from jsonb_each(stored)
    where key <> all ('{id,kind,status,error,wake_at,next_fire_at,anchor_at,effective_from,last_fire_at,last_started_at,'
                      'last_success_at,last_finished_at,last_duration,last_status,consecutive_failures,fires_count,'
                      'version,declared_version,created_by,created_at,updated_at,sleepers_until,running,'
                      'limited,limit_epoch,full_at,holder,epoch}'::text[]));

drop trigger schedules_activity on watchbell.schedules;
create trigger schedules_activity after insert or delete or update of
    name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload, queue, priority, max_attempts, retry,
    timeout, overlap, max_running, misfire, misfire_grace, catch_up_window, catch_up_limit, start_deadline, jitter,
    pause_after_failures, concurrency_key, first_fire, starts_at, ends_at, max_fires, target, description, owner,
    runbook_url, tags, managed_by, paused_at, paused_until, pause_note, callback_url,
    notify_channel
on watchbell.schedules for each row execute function watchbell.record_change('schedule', 'name');

-- A queue that appears with its first run is no change of anyone's, and its row in limits is the engine's own.
drop trigger queues_activity on watchbell.queues;
drop trigger queues_activity_insert on watchbell.queues;
drop trigger limits_activity on watchbell.limits;
drop trigger limits_activity_insert on watchbell.limits;
drop trigger limits_activity_delete on watchbell.limits;
create trigger queues_activity after update of
    paused_at, pause_note, max_running, fifo, rate_limit, rate_period, max_pending
on watchbell.queues for each row execute function watchbell.record_change('queue', 'name');
create trigger queues_activity_insert after insert on watchbell.queues
for each row when (new.paused_at is not null or new.limited or new.max_pending is not null)
execute function watchbell.record_change('queue', 'name');
create trigger limits_activity after update of max_running on watchbell.limits
for each row when (old.max_running <> new.max_running and new.key not like 'schedule:%' and new.key not like 'queue:%')
execute function watchbell.record_change('limit', 'key');
create trigger limits_activity_insert after insert on watchbell.limits
for each row when (new.max_running <> 1 and new.key not like 'schedule:%' and new.key not like 'queue:%')
execute function watchbell.record_change('limit', 'key');
create trigger limits_activity_delete after delete on watchbell.limits
for each row when (old.key not like 'queue:%') execute function watchbell.record_change('limit', 'key');

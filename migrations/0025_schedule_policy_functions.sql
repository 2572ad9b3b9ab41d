-- The functions as in 0014, 0016 and 0021, with keep_alive, copies and target = 'all': a schedule that runs on
-- every worker does so by run_now() too, and cannot be backfilled. And retries leave
-- alone what is kept alive, or aimed at a worker that has ended.

drop function watchbell.schedule;
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
    callback_url text default null, notify_channel text default null,
    keep_alive boolean default false, copies integer default 1
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
        max_fires, target, description, owner, runbook_url, tags, managed_by, callback_url, notify_channel, keep_alive, copies)
    values (schedule.name, schedule.cron, schedule.fixed_delay, schedule.fixed_rate, schedule.run_at, schedule.timezone,
        schedule.dst, schedule.handler, schedule.payload, schedule.queue, schedule.priority, schedule.max_attempts,
        schedule.retry, schedule.timeout, schedule.overlap, schedule.max_running, schedule.misfire,
        schedule.misfire_grace, schedule.catch_up_window, schedule.catch_up_limit, schedule.start_deadline,
        schedule.jitter, schedule.pause_after_failures, schedule.concurrency_key, schedule.first_fire,
        schedule.starts_at, schedule.ends_at, schedule.max_fires, schedule.target, schedule.description, schedule.owner,
        schedule.runbook_url, schedule.tags, schedule.managed_by, schedule.callback_url, schedule.notify_channel,
        schedule.keep_alive, schedule.copies)
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
        notify_channel = excluded.notify_channel, keep_alive = excluded.keep_alive, copies = excluded.copies
    where (s.cron, s.fixed_delay, s.fixed_rate, s.run_at, s.timezone, s.dst, s.handler, s.payload, s.queue, s.priority,
           s.max_attempts, s.retry, s.timeout, s.overlap, s.max_running, s.misfire, s.misfire_grace, s.catch_up_window,
           s.catch_up_limit, s.start_deadline, s.jitter, s.pause_after_failures, s.concurrency_key, s.first_fire,
           s.starts_at, s.ends_at, s.max_fires, s.target, s.description, s.owner, s.runbook_url, s.tags, s.managed_by,
           s.callback_url, s.notify_channel, s.keep_alive, s.copies)
          is distinct from
          (excluded.cron, excluded.fixed_delay, excluded.fixed_rate, excluded.run_at, excluded.timezone, excluded.dst,
           excluded.handler, excluded.payload, excluded.queue, excluded.priority, excluded.max_attempts,
           excluded.retry, excluded.timeout, excluded.overlap, excluded.max_running, excluded.misfire,
           excluded.misfire_grace, excluded.catch_up_window, excluded.catch_up_limit, excluded.start_deadline,
           excluded.jitter, excluded.pause_after_failures, excluded.concurrency_key, excluded.first_fire,
           excluded.starts_at, excluded.ends_at, excluded.max_fires, excluded.target, excluded.description,
           excluded.owner, excluded.runbook_url, excluded.tags, excluded.managed_by, excluded.callback_url,
           excluded.notify_channel, excluded.keep_alive, excluded.copies);
    return (select s.id from watchbell.schedules s where s.name = schedule.name);
end $$;
comment on function watchbell.schedule is 'Makes a schedule, or the one of this name the same; answers its number. What is not said has its default.';
revoke execute on function watchbell.schedule from public;

create or replace function watchbell.run_now(name text, payload jsonb default null) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    wanted constant bigint := watchbell.schedule_id(name);
    s watchbell.schedules;
    key text;
    worker integer;
    made bigint;
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
    insert into watchbell.queues (name) values (s.queue) on conflict do nothing;
    -- With target all one on each worker; otherwise one, for whoever may.
    foreach worker in array case when s.target ~ '^all(:|$)'
                                 then array(select m from watchbell.members(s, watchbell.clock()) m order by m)
                                 else array[null::integer] end loop
        key := coalesce(s.concurrency_key,
                        case when s.overlap in ('queue_one', 'queue_all', 'cancel_running')
                             then 'schedule:' || s.id || coalesce(':' || worker, '') end);
        if key is not null then
            insert into watchbell.limits (key, max_running) values (key, s.max_running) on conflict do nothing;
        end if;
        insert into watchbell.runs_live as r (run_at, priority, max_attempts, trigger, queue, handler, payload, timeout,
            retry, start_deadline, concurrency_key, target, tags, schedule_id, schedule_name, callback_url,
            notify_channel)
        values (watchbell.clock(), s.priority, s.max_attempts, 'run_now', s.queue, s.handler,
            coalesce(run_now.payload, s.payload), s.timeout, s.retry, watchbell.clock() + s.start_deadline, key,
            coalesce('worker=' || worker, s.target), nullif(s.tags, '{}'), s.id, s.name, s.callback_url,
            s.notify_channel)
        returning r.id into made;
        run := coalesce(run, made);
    end loop;
    if run is null then
        raise exception using errcode = '55000', schema = 'watchbell', table = 'schedules', column = 'target',
            message = format('schedule "%s" cannot run now: no live worker matches its target "%s"', name, s.target),
            hint = 'Workers that live: SELECT name, labels, handlers FROM watchbell.worker_status WHERE ended_at IS NULL;';
    end if;
    perform watchbell.note_change('run_now', 'schedule', s.name, s.id, null, jsonb_build_object('run_id', run));
    return run;
end $$;
comment on function watchbell.run_now is 'Makes a run of a schedule at once, with another payload if given, and leaves its fire times alone; with target all one on each worker. Answers the (first) run''s number.';
create or replace function watchbell.backfill(name text, "from" timestamptz, "to" timestamptz, dry_run boolean default false)
returns bigint language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    wanted constant bigint := watchbell.schedule_id(name);
    spec constant text := (select s.kind from watchbell.schedules s where s.id = wanted);
    everywhere constant boolean := (select s.target ~ '^all(:|$)' from watchbell.schedules s where s.id = wanted);
    id bigint;
    problem text;
begin
    problem := case
        when num_nulls("from", "to") > 0 then 'from or to is missing'
        when spec not in ('cron', 'fixed_rate') then format('kind %s has no fire times of the past', spec)
        when everywhere then 'its target is all, and the workers of the past are gone'
        when "from" > "to" then format('from %s is after to %s', "from", "to")
        when "to" > watchbell.clock() then format('to %s is in the future', "to")
        else watchbell.time_problem('from', "from") end;
    if problem is not null then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'backfills',
            message = format('schedule "%s" cannot be backfilled: %s', name, problem),
            hint = case when problem like 'kind%' or problem like 'its target%' then format('For one run: SELECT watchbell.run_now(%L);', name)
                        else 'Example: SELECT watchbell.backfill(''nightly'', now() - interval ''3 days'', now(), dry_run => true);'
                        end;
    end if;
    insert into watchbell.backfills as b (schedule_id, schedule_name, from_at, to_at, dry_run)
    values (wanted, name, "from", "to", coalesce(dry_run, false)) returning b.id into id;
    insert into watchbell.worker_requests (request, backfill_id) values ('backfill', id);
    perform pg_notify('watchbell', 'requests');
    if dry_run is not true then
        perform watchbell.note_change('backfill', 'schedule', name, wanted, null,
            jsonb_build_object('id', id, 'from', "from", 'to', "to"));
    end if;
    return id;
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
    elsif s.target ~ '^all(:|$)' then
        problem := 'its target is all, and the workers of the past are gone';
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

create or replace function watchbell.retry(run_id bigint) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    f watchbell.runs_finished;
    live text;
    other bigint;
begin
    -- The lock lets two callers take turns; nothing else ever changes this row.
    select * into f from watchbell.runs_finished x where x.id = retry.run_id for no key update;
    if not found then
        select r.status into live from watchbell.runs_live r where r.id = retry.run_id;
        if found then
            raise exception using errcode = '55000', schema = 'watchbell', table = 'runs', column = 'status',
                message = format('run %s cannot be retried: it is %s and has not ended', retry.run_id, live),
                hint = format('To start it anew, cancel it first: SELECT watchbell.cancel(%s);', retry.run_id);
        end if;
        raise exception using errcode = 'P0002', schema = 'watchbell', table = 'runs', column = 'id',
            message = format('run %s does not exist', coalesce(retry.run_id::text, 'NULL')),
            hint = 'Runs that failed: SELECT id, handler, error FROM watchbell.recent_failures;';
    end if;
    if watchbell.is_stranded(f.target) then
        raise exception using errcode = '55000', schema = 'watchbell', table = 'runs', column = 'target',
            message = format('run %s cannot be retried: the worker that it was aimed at (%s) has ended', f.id, f.target),
            hint = 'For all workers that live now: SELECT watchbell.run_now(''its schedule'');';
    end if;
    select r.id into other from watchbell.runs_live r where r.retry_of = f.id limit 1;
    if found then
        return other;
    end if;
    other := watchbell.insert_retry(f);
    if other is null then
        raise exception using errcode = '23505', schema = 'watchbell', table = 'runs', column = 'unique_key',
            message = format('run %s cannot be retried: %s with its unique_key "%s" is open', f.id,
                coalesce((select 'run ' || r.id from watchbell.runs_live r where r.unique_key = f.unique_key), 'a run'),
                watchbell.shown(f.unique_key)),
            hint = 'Wait for that one, or cancel it.';
    end if;
    perform watchbell.note_change('retry', 'run', f.schedule_name, f.id, null, jsonb_build_object('run_id', other));
    return other;
end $$;

create or replace function watchbell.retry_failed(
    handler text default null, since timestamptz default now() - interval '1 day', max integer default 1000,
    queue text default null, schedule text default null
) returns integer language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    f watchbell.runs_finished;
    n integer := 0;
begin
    if max is null or max not between 1 and 10000 or since is null then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'runs',
            message = case when since is null then 'since is missing'
                           else format('max %s is out of range 1-10000', coalesce(max::text, 'NULL')) end,
            hint = 'Example: SELECT watchbell.retry_failed(handler => ''mail'', since => now() - interval ''2 hours'');';
    end if;
    -- A mistyped name would answer 0, as if nothing had failed.
    if schedule is not null then
        perform watchbell.schedule_id(schedule);
    end if;
    for f in
        select x.* from watchbell.runs_finished x
        where x.status = 'failed' and x.finished_at >= since
          -- a copy was restarted long ago, and what is stranded can never start
          and x.trigger <> 'keep_alive' and not watchbell.is_stranded(x.target)
          and (retry_failed.handler is null or x.handler = retry_failed.handler)
          and (retry_failed.queue is null or x.queue = retry_failed.queue)
          and (retry_failed.schedule is null or x.schedule_name = retry_failed.schedule)
          and not exists (select from watchbell.runs_live r where r.retry_of = x.id)
          and not exists (select from watchbell.runs_finished r where r.retry_of = x.id)
        order by x.finished_at limit max
        for no key update of x skip locked
    loop
        n := n + (watchbell.insert_retry(f) is not null)::integer;
    end loop;
    if n > 0 then
        perform watchbell.note_change('retry_failed', 'run', coalesce(schedule, handler, queue), null, null,
            jsonb_strip_nulls(jsonb_build_object('handler', handler, 'queue', queue, 'schedule', schedule,
                                                 'since', since, 'runs', n)));
    end if;
    return n;
end $$;

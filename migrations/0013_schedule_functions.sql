-- Functions about schedules, queues and workers. All run as the schema's owner, so a plain producer may call
-- them; the role is granted EXECUTE. What does not exist is answered with SQLSTATE P0002, what cannot be done
-- now with 55000, a bad value with 22023, each in one sentence and a hint.

alter table watchbell.fires drop constraint fires_disposition_check;
do $$
declare
    day regclass;
begin
    -- A day's own copy of the check outlives that of the table.
    for day in select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = 'watchbell.fires'::regclass loop
        execute format('alter table %s drop constraint if exists fires_disposition_check', day);
    end loop;
end $$;
alter table watchbell.fires add constraint fires_disposition_check check (disposition in (
    'run', 'caught_up', 'queued', 'skipped_overlap', 'skipped_misfire', 'coalesced', 'expired', 'skipped_by_request',
    'backfilled'));

-- How alike two names are, 0 to 1: the pairs of letters that they share.
create function watchbell.likeness(a text, b text) returns double precision
language sql immutable set search_path = watchbell, pg_temp
return (
    with pairs (side, pair) as (
        select distinct s.side, substr(s.word, i, 2)
        from (values (1, ' ' || lower(left(a, 128)) || ' '), (2, ' ' || lower(left(b, 128)) || ' ')) s (side, word),
             generate_series(1, length(s.word) - 1) i
    )
    select 2.0 * count(*) filter (where n = 2) / greatest(sum(n), 1)
    from (select count(*) as n from pairs group by pair) p);

-- The number of a schedule, or one sentence that names the nearest.
create function watchbell.schedule_id(name text) returns bigint
language plpgsql stable security definer set search_path = watchbell, pg_temp as $$
declare
    found_id constant bigint := (select s.id from watchbell.schedules s where s.name = schedule_id.name);
begin
    if found_id is null then
        raise exception using errcode = 'P0002', schema = 'watchbell', table = 'schedules', column = 'name',
            message = format('schedule %s does not exist', coalesce('"' || watchbell.shown(name) || '"', 'NULL')),
            hint = coalesce(
                (select format('Did you mean "%s"?', n.name)
                 from (select s.name, watchbell.likeness(s.name, schedule_id.name) as likeness
                       from watchbell.schedules s order by s.id limit 10000) n
                 where n.likeness >= 0.4 order by n.likeness desc, n.name limit 1),
                'List them with: SELECT name FROM watchbell.schedules;');
    end if;
    return found_id;
end $$;

-- Makes a schedule, or the one of this name the same; answers its number. What is not said has its default, as in
-- a new row; a pause and what became of it so far stay. The same again changes nothing.
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
    owner text default null, runbook_url text default null, tags text[] default '{}', managed_by text default null
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
        max_fires, target, description, owner, runbook_url, tags, managed_by)
    values (schedule.name, schedule.cron, schedule.fixed_delay, schedule.fixed_rate, schedule.run_at, schedule.timezone,
        schedule.dst, schedule.handler, schedule.payload, schedule.queue, schedule.priority, schedule.max_attempts,
        schedule.retry, schedule.timeout, schedule.overlap, schedule.max_running, schedule.misfire,
        schedule.misfire_grace, schedule.catch_up_window, schedule.catch_up_limit, schedule.start_deadline,
        schedule.jitter, schedule.pause_after_failures, schedule.concurrency_key, schedule.first_fire,
        schedule.starts_at, schedule.ends_at, schedule.max_fires, schedule.target, schedule.description, schedule.owner,
        schedule.runbook_url, schedule.tags, schedule.managed_by)
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
        managed_by = excluded.managed_by
    where (s.cron, s.fixed_delay, s.fixed_rate, s.run_at, s.timezone, s.dst, s.handler, s.payload, s.queue, s.priority,
           s.max_attempts, s.retry, s.timeout, s.overlap, s.max_running, s.misfire, s.misfire_grace, s.catch_up_window,
           s.catch_up_limit, s.start_deadline, s.jitter, s.pause_after_failures, s.concurrency_key, s.first_fire,
           s.starts_at, s.ends_at, s.max_fires, s.target, s.description, s.owner, s.runbook_url, s.tags, s.managed_by)
          is distinct from
          (excluded.cron, excluded.fixed_delay, excluded.fixed_rate, excluded.run_at, excluded.timezone, excluded.dst,
           excluded.handler, excluded.payload, excluded.queue, excluded.priority, excluded.max_attempts,
           excluded.retry, excluded.timeout, excluded.overlap, excluded.max_running, excluded.misfire,
           excluded.misfire_grace, excluded.catch_up_window, excluded.catch_up_limit, excluded.start_deadline,
           excluded.jitter, excluded.pause_after_failures, excluded.concurrency_key, excluded.first_fire,
           excluded.starts_at, excluded.ends_at, excluded.max_fires, excluded.target, excluded.description,
           excluded.owner, excluded.runbook_url, excluded.tags, excluded.managed_by);
    return (select s.id from watchbell.schedules s where s.name = schedule.name);
end $$;
comment on function watchbell.schedule is 'Makes a schedule, or the one of this name the same; answers its number. What is not said has its default.';

create function watchbell.unschedule(name text) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    gone constant bigint := watchbell.schedule_id(name);
begin
    delete from watchbell.schedules s where s.id = gone;
    return gone;
end $$;
comment on function watchbell.unschedule is 'Deletes a schedule; its runs stay, open ones too. Answers its number.';

-- Paused again, it keeps the time since when it is paused; note and end are the new ones.
create function watchbell.pause(name text, note text default null, until timestamptz default null) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    paused constant bigint := watchbell.schedule_id(name);
    problem constant text := coalesce(watchbell.time_problem('until', until),
        watchbell.length_problem('note', note, 8192),
        case when until <= watchbell.clock() then format('until %s is not in the future', until) end);
begin
    if problem is not null then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'schedules',
            column = case when problem like 'note%' then 'pause_note' else 'paused_until' end,
            message = format('schedule "%s": %s', name, problem), hint = 'Without until it stays paused.';
    end if;
    update watchbell.schedules s
    set paused_at = coalesce(s.paused_at, watchbell.clock()), paused_by = session_user,
        pause_note = note, paused_until = until
    where s.id = paused
      and (s.paused_at is null or (s.pause_note, s.paused_until) is distinct from (note, until));
    return paused;
end $$;
comment on function watchbell.pause is 'Stops a schedule from firing, until a time if given; runs go on. Answers its number.';

create function watchbell.resume(name text) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    resumed constant bigint := watchbell.schedule_id(name);
begin
    update watchbell.schedules s set paused_at = null where s.id = resumed and s.paused_at is not null;
    return resumed;
end $$;
comment on function watchbell.resume is 'Lets a paused schedule fire again, from now on; fire times of the pause are dropped. Answers its number.';

-- The next fire time makes no run; what follows is planned from it. Under the schedule's lock, as fire decides.
create function watchbell.skip_next(name text) returns timestamptz
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    wanted constant bigint := watchbell.schedule_id(name);
    s watchbell.schedules;
    at timestamptz;
    following timestamptz;
begin
    select * into s from watchbell.schedules x where x.id = wanted for no key update;
    at := s.next_fire_at;
    if at is null then
        raise exception using errcode = '55000', schema = 'watchbell', table = 'schedules', column = 'next_fire_at',
            message = format('schedule "%s" has no next fire time to skip: %s', name,
                case when s.paused_at is not null then 'it is paused'
                     when s.status = 'pending' then 'it is not planned yet'
                     when s.status <> 'normal' then 'its status is ' || s.status
                     else 'it is set when the open run ends' end),
            hint = case when s.paused_at is not null then 'Fire times of a pause make no run anyway.'
                        when s.status = 'pending' then 'A running worker plans it within a second; then call again.'
                        when s.status = 'invalid' then 'Its column error says why.'
                        when s.status = 'done' then 'It never fires again.'
                        else 'Call again when that run has ended, or cancel it.' end;
    end if;
    perform watchbell.make_day('fires', (at at time zone 'UTC')::date);
    insert into watchbell.fires (schedule_id, fire_at, disposition, missed, decided_at)
    values (s.id, at, 'skipped_by_request', 1, watchbell.instant())
    on conflict do nothing;
    -- Cron is planned by a worker, from last_fire_at on; the others follow from the period.
    following := at + make_interval(secs => extract(epoch from coalesce(s.fixed_rate, s.fixed_delay))::double precision);
    update watchbell.schedules x
    set last_fire_at = at,
        wake_at = case when s.kind = 'cron' then '-infinity'
                       when following < coalesce(s.ends_at, 'infinity') then following
                       else 'infinity' end,
        status = case when s.kind = 'cron' then 'pending'
                      when following < coalesce(s.ends_at, 'infinity') then 'normal'
                      else 'done' end
    where x.id = s.id;
    perform watchbell.note_change('skip_next', 'schedule', s.name, s.id, null, jsonb_build_object('fire_at', at));
    perform pg_notify('watchbell', 'schedules');
    return at;
end $$;
comment on function watchbell.skip_next is 'Skips the next fire time of a schedule and answers it; each call skips one more.';

create function watchbell.pause_queue(name text, note text default null) returns text
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if name is null or name !~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' or length(name) > 128 then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'queues', column = 'name',
            message = format('queue "%s" is not a valid name', watchbell.shown(coalesce(name, ''))),
            hint = 'A name has 1 to 128 letters, digits and . _ : - and begins with a letter or digit.';
    end if;
    insert into watchbell.queues as q (name, paused_at, paused_by, pause_note)
    values (name, watchbell.clock(), session_user, left(note, 8192))
    on conflict on constraint queues_pkey do update
    set paused_at = coalesce(q.paused_at, excluded.paused_at), paused_by = excluded.paused_by,
        pause_note = excluded.pause_note
    where q.paused_at is null or q.pause_note is distinct from excluded.pause_note;
    return name;
end $$;
comment on function watchbell.pause_queue is 'Stops workers from starting runs of a queue, within a second; running ones go on. Answers its name.';

create function watchbell.resume_queue(name text) returns text
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if not exists (select from watchbell.queues q where q.name = resume_queue.name) then
        raise exception using errcode = 'P0002', schema = 'watchbell', table = 'queues', column = 'name',
            message = format('queue %s does not exist', coalesce('"' || watchbell.shown(name) || '"', 'NULL')),
            hint = coalesce(
                (select format('Did you mean "%s"?', q.name)
                 from watchbell.queues q, watchbell.likeness(q.name, resume_queue.name) l
                 where l >= 0.4 order by l desc, q.name limit 1),
                'List them with: SELECT queue FROM watchbell.queue_status;');
    end if;
    update watchbell.queues q set paused_at = null, paused_by = null, pause_note = null
    where q.name = resume_queue.name and q.paused_at is not null;
    perform pg_notify('watchbell', 'runs');
    return name;
end $$;
comment on function watchbell.resume_queue is 'Lets workers start runs of a queue again. Answers its name.';

-- The state of a worker that is there, or one sentence.
create function watchbell.live_worker_state(worker integer) returns text
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    state constant text := (select w.state from watchbell.workers w where w.id = worker);
begin
    if state is null then
        raise exception using errcode = 'P0002', schema = 'watchbell', table = 'workers', column = 'id',
            message = format('worker %s does not exist', coalesce(worker::text, 'NULL')),
            hint = 'List them with: SELECT id, name, state FROM watchbell.worker_status;';
    end if;
    return state;
end $$;

create function watchbell.drain(worker integer, reason text default null) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    state constant text := watchbell.live_worker_state(worker);
    request bigint;
begin
    if state in ('stopped', 'dead') then
        raise exception using errcode = '55000', schema = 'watchbell', table = 'workers', column = 'state',
            message = format('worker %s cannot be drained: it is %s', worker, state),
            hint = 'Workers that run: SELECT id, name FROM watchbell.worker_status WHERE ended_at IS NULL;';
    end if;
    select q.id into request from watchbell.worker_requests q
    where q.request = 'drain' and q.worker_id = worker and (q.handled_at is null or state = 'draining')
    order by q.id desc limit 1;
    if request is null then
        insert into watchbell.worker_requests as q (request, worker_id, reason)
        values ('drain', worker, left(drain.reason, 1000)) returning q.id into request;
    end if;
    return request;
end $$;
comment on function watchbell.drain is 'Asks a worker to claim nothing more, end its runs and stop, as SIGTERM does. Answers the request''s number.';

create function watchbell.undrain(worker integer) returns boolean
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    state constant text := watchbell.live_worker_state(worker);
    withdrawn integer;
begin
    delete from watchbell.worker_requests q
    where q.request = 'drain' and q.worker_id = worker and q.handled_at is null;
    get diagnostics withdrawn = row_count;
    if withdrawn > 0 then
        perform watchbell.note_change('undrain', 'worker',
            (select w.name from watchbell.workers w where w.id = worker), worker);
    elsif state = 'draining' then
        raise exception using errcode = '55000', schema = 'watchbell', table = 'workers', column = 'state',
            message = format('worker %s is draining already and will stop', worker),
            hint = 'Start another in its place.';
    end if;
    return withdrawn > 0;
end $$;
comment on function watchbell.undrain is 'Takes back a drain that its worker has not seen yet (it looks once a second); false if there is none.';

revoke execute on function
    watchbell.schedule_id, watchbell.schedule, watchbell.unschedule, watchbell.pause, watchbell.resume,
    watchbell.skip_next, watchbell.pause_queue, watchbell.resume_queue, watchbell.drain, watchbell.undrain from public;

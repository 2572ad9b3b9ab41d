-- Run as the schema's owner: psql -v ON_ERROR_STOP=1 -f THIS_FILE
do $$ begin
    if to_regnamespace('watchbell') is null then
        create schema watchbell;
    end if;
end $$;
create table if not exists watchbell.migrations (
    version    integer primary key,
    name       text not null,
    checksum   text not null,
    min_build  integer not null,
    applied_at timestamptz not null default now(),
    applied_by text not null default session_user
);

-- 0001_schedules
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- Schedules: what to do and when. People insert rows here; the checks that answer a bad row in one
-- sentence come in 0007.

create table watchbell.schedules (
    id                   bigint generated always as identity primary key,
    name                 text collate "C" not null constraint schedules_name_key unique,
    cron                 text,
    fixed_delay          interval,
    fixed_rate           interval,
    run_at               timestamptz,
    kind                 text generated always as (
        case when cron is not null then 'cron'
             when fixed_delay is not null then 'fixed_delay'
             when fixed_rate is not null then 'fixed_rate'
             else 'once' end) stored,
    timezone             text not null default 'UTC',
    dst                  text not null default 'once',
    handler              text collate "C" not null,
    payload              jsonb not null default '{}',
    queue                text collate "C" not null default 'default',
    priority             smallint not null default 5,
    max_attempts         smallint not null default 3,
    retry                jsonb,
    timeout              interval default '1 hour',
    overlap              text not null default 'allow',
    max_running          integer not null default 1,
    misfire              text not null default 'fire_once',
    misfire_grace        interval not null default '60 s',
    catch_up_window      interval not null default '1 day',
    catch_up_limit       integer not null default 100,
    start_deadline       interval,
    jitter               interval not null default '0',
    pause_after_failures integer,
    concurrency_key      text collate "C",
    first_fire           text not null default 'after_period',
    starts_at            timestamptz,
    ends_at              timestamptz,
    max_fires            bigint,
    target               text collate "C",
    description          text,
    owner                text,
    runbook_url          text,
    tags                 text[] not null default '{}',
    managed_by           text,
    -- written by the system
    status               text not null default 'pending',
    error                text,
    wake_at              timestamptz not null default '-infinity',
    next_fire_at         timestamptz generated always as (case when isfinite(wake_at) then wake_at end) stored,
    anchor_at            timestamptz,
    effective_from       timestamptz not null default now(),
    last_fire_at         timestamptz,
    last_started_at      timestamptz,
    last_success_at      timestamptz,
    last_finished_at     timestamptz,
    last_duration        interval,
    last_status          text,
    consecutive_failures integer not null default 0,
    fires_count          bigint not null default 0,
    paused_at            timestamptz,
    paused_by            text,
    paused_until         timestamptz,
    pause_note           text,
    version              bigint not null default 1,
    declared_version     bigint,
    created_by           text not null default session_user,
    created_at           timestamptz not null default now(),
    updated_at           timestamptz not null default now()
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The one index the fire stage reads: a row just inserted stands at its head ('-infinity').
create index schedules_due on watchbell.schedules (wake_at) where paused_at is null;

-- Every heartbeat asks whether a pause has run out.
create index schedules_resume on watchbell.schedules (paused_until) where paused_until is not null;

-- One row per fire time and what became of it; the key is the proof that none acted twice.
create table watchbell.fires (
    schedule_id bigint not null,
    fire_at     timestamptz not null,
    disposition text collate "C" not null check (disposition in (
        'run', 'caught_up', 'queued', 'skipped_overlap', 'skipped_misfire', 'coalesced', 'expired')),
    run_id      bigint,
    until       timestamptz,
    missed      bigint not null default 0,
    decided_at  timestamptz not null default now(),
    primary key (schedule_id, fire_at)
) partition by range (fire_at);

insert into watchbell.migrations (version, name, checksum, min_build) values (1, '0001_schedules', 'ba3ca425b6e024e4', 1);
commit;

-- 0002_runs
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- Runs: one relation for people (the view `runs`), two tables for the engine. `runs_live` stays small
-- and hot; a finished run moves to `runs_finished`, one partition per day.

-- One CHECK only. The server parses each of them again for every statement: seven took 30 us of an insert of one
-- row, as much as all else, and one on `payload` would unpack it at every claim. What people insert goes through
-- the view `runs`, whose trigger checks more than they could.
create table watchbell.runs_live (
    id              bigint generated by default as identity primary key,
    run_at          timestamptz not null default now(),
    created_at      timestamptz not null default now(),
    started_at      timestamptz,
    fence           bigint not null default 0,
    claimed_by      integer,
    attempt         integer not null default 0,
    priority        smallint not null default 5,
    max_attempts    smallint not null default 3,
    crashes         smallint not null default 0,
    status          text collate "C" not null default 'pending',
    trigger         text collate "C" not null default 'enqueue',
    queue           text collate "C" not null default 'default',
    handler         text collate "C" not null,
    payload         jsonb not null default '{}',
    timeout         interval default '1 hour',
    retry           jsonb,
    start_deadline  timestamptz,
    unique_key      text collate "C",
    concurrency_key text collate "C",
    target          text collate "C",
    tags            text[],
    error           text,
    schedule_id     bigint,
    schedule_name   text collate "C",
    fire_at         timestamptz,
    retry_of        bigint,
    created_by      text not null default session_user,
    check (status = case when claimed_by is null then 'pending' else 'running' end)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_threshold = 20000, autovacuum_vacuum_insert_scale_factor = 0,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
        autovacuum_vacuum_cost_delay = 0);

-- No index, and no index predicate, on a column that a claim changes: claims stay HOT.
create index runs_live_lane on watchbell.runs_live (queue, priority, run_at, id) where concurrency_key is null;
create index runs_live_key on watchbell.runs_live (concurrency_key, priority, run_at, id) where concurrency_key is not null;
create index runs_live_schedule on watchbell.runs_live (schedule_id) where schedule_id is not null;
create unique index runs_live_unique_key on watchbell.runs_live (unique_key) where unique_key is not null;

create table watchbell.runs_finished (
    id              bigint not null,
    run_at          timestamptz not null,
    created_at      timestamptz not null,
    started_at      timestamptz,
    finished_at     timestamptz not null,
    fence           bigint not null,
    claimed_by      integer,
    attempt         integer not null,
    priority        smallint not null,
    max_attempts    smallint not null,
    crashes         smallint not null,
    status          text collate "C" not null check (status in ('normal', 'failed', 'cancelled')),
    trigger         text collate "C" not null,
    queue           text collate "C" not null,
    handler         text collate "C" not null,
    payload         jsonb not null,
    timeout         interval,
    retry           jsonb,
    start_deadline  timestamptz,
    unique_key      text collate "C",
    concurrency_key text collate "C",
    target          text collate "C",
    tags            text[],
    error           text,
    schedule_id     bigint,
    schedule_name   text collate "C",
    fire_at         timestamptz,
    retry_of        bigint,
    created_by      text not null
) partition by range (finished_at);
create index runs_finished_id on watchbell.runs_finished (id);
create index runs_finished_schedule on watchbell.runs_finished (schedule_id, fire_at) where schedule_id is not null;

-- Why each attempt failed. Apart from runs, so that it can never stop a state change.
create table watchbell.run_errors (
    run_id    bigint not null,
    attempt   integer not null,
    fence     bigint not null,
    worker_id integer,
    kind      text collate "C" not null,
    message   text not null,
    at        timestamptz not null default now()
) partition by range (at);
create index run_errors_run on watchbell.run_errors (run_id);

-- What a run printed or logged, as bytes, in order. Apart from runs for the same reason.
create table watchbell.run_output (
    run_id  bigint not null,
    attempt integer not null,
    seq     integer not null,
    stream  text collate "C" not null check (stream in ('log', 'stdout', 'stderr')),
    bytes   bytea not null,
    at      timestamptz not null default now()
) partition by range (at);
create index run_output_run on watchbell.run_output (run_id, attempt, seq);

insert into watchbell.migrations (version, name, checksum, min_build) values (2, '0002_runs', '914071d099318858', 1);
commit;

-- 0003_workers
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- Workers and what they share: queues, concurrency limits, handlers that were ever registered, and
-- people's requests to workers.

create table watchbell.workers (
    id           integer generated always as identity primary key,
    name         text not null,
    host         text not null,
    ip           text,
    pid          integer not null,
    version      text not null,
    labels       text[] not null default '{}',
    handlers     text[] not null default '{}',
    queues       text[],
    slots        integer not null,
    state        text collate "C" not null default 'starting'
                 check (state in ('starting', 'running', 'draining', 'stopped', 'dead')),
    presence     boolean not null default false,
    started_at   timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    lease_until  timestamptz not null,
    ended_at     timestamptz
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- A person never writes the worker's own row or a running run: an open psql transaction would stop its
-- heartbeat or its finish. Requests wait here and the worker reads them.
create table watchbell.worker_requests (
    id           bigint generated always as identity primary key,
    request      text collate "C" not null check (request in ('drain', 'cancel')),
    worker_id    integer,
    run_id       bigint,
    reason       text,
    requested_by text not null default session_user,
    requested_at timestamptz not null default now(),
    handled_at   timestamptz,
    check ((request = 'cancel') = (run_id is not null)),
    check ((request = 'drain') = (worker_id is not null))
);
create index worker_requests_open on watchbell.worker_requests (id) where handled_at is null;
create index worker_requests_run on watchbell.worker_requests (run_id) where run_id is not null;

create table watchbell.handlers (
    name          text collate "C" primary key,
    first_seen_at timestamptz not null default now(),
    last_seen_at  timestamptz not null default now()
);

create table watchbell.queues (
    name           text collate "C" primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$'),
    paused_at      timestamptz,
    paused_by      text,
    pause_note     text,
    sleepers_until timestamptz not null default '-infinity',
    created_at     timestamptz not null default now()
) with (fillfactor = 50);
insert into watchbell.queues (name) values ('default');

create table watchbell.limits (
    key         text collate "C" primary key,
    max_running integer not null default 1 check (max_running between 1 and 1000000),
    running     integer not null default 0 check (running >= 0)
) with (fillfactor = 50);

insert into watchbell.migrations (version, name, checksum, min_build) values (3, '0003_workers', '948056c983886daf', 1);
commit;

-- 0004_checks
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- What the row checks of runs and schedules share: the clock, what a refusal consists of, and the
-- rules for columns that both have. Functions named `.._problem` answer NULL when all is well, and
-- otherwise the end of a sentence that begins with the row's name.

-- The transaction's time; a test may set it for its session: set watchbell.now = '2030-01-01 00:00Z'.
create function watchbell.clock() returns timestamptz
language sql stable set search_path = watchbell, pg_temp
return coalesce(nullif(current_setting('watchbell.now', true), '')::timestamptz, now());

-- This instant, later than `clock()` in a long transaction: when a run ended.
create function watchbell.instant() returns timestamptz
language sql volatile set search_path = watchbell, pg_temp
return coalesce(nullif(current_setting('watchbell.now', true), '')::timestamptz, clock_timestamp());

-- A value of any length and content as it may stand inside one sentence.
create function watchbell.shown(value text) returns text
language sql immutable set search_path = watchbell, pg_temp
return regexp_replace(left(value, 80), '[[:cntrl:]]', ' ', 'g') || case when length(value) > 80 then '...' else '' end;

-- Why a row is refused: the column at fault, one sentence, what to do instead, and the SQLSTATE (23514 for a
-- value outside its limits, 22023 for one that cannot be read). All NULL: it is accepted. Only the outermost
-- function raises it, so that the error is not buried under the lines of its callers.
create type watchbell.refusal as ("column" text, sentence text, hint text, code text);

create function watchbell.refused("column" text, sentence text, hint text, code text default '23514')
returns watchbell.refusal language sql immutable set search_path = watchbell, pg_temp
return ("column", sentence, hint, code)::watchbell.refusal;

-- A text such as 90s, 1h30m, 2 days, PT1H or 1 day 02:00:00, as workers read it too; NULL when it is none.
-- PostgreSQL alone would take "5" for seconds and "5M" for minutes.
create function watchbell.duration(value text) returns interval
language plpgsql immutable strict set search_path = watchbell, pg_temp as $$
declare
    clean constant text := btrim(value, E' \t\r\n\f');
begin
    if octet_length(clean) > 64 or clean !~ (
            '^@? *(([0-9]+(\.[0-9]*)?|\.[0-9]+) *(us|ms|msecs?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?'
            '|h|hrs?|hours?|d|days?|w|weeks?) *|[0-9]+:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)? *)+$'
            '|^P(?=.)([0-9.]+W)?([0-9.]+D)?(T(?=.)([0-9.]+H)?([0-9.]+M)?([0-9.]+S)?)?$') then
        return null;
    end if;
    -- '1w 2d' is an interval to PostgreSQL, '1w2d' is none.
    return regexp_replace(clean, '([a-z])(?=[0-9.])', '\1 ', 'g')::interval;
exception when invalid_datetime_format or datetime_field_overflow or interval_field_overflow then
    return null;
end $$;

-- Months have no fixed length, and now() plus a very long interval is out of range for ever after.
create function watchbell.interval_problem("column" text, value interval, minimum interval) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
begin
    return case
        when value is null then null
        when not isfinite(value) then format('%s must be finite (got %s)', "column", value)
        when extract(year from value) <> 0 or extract(month from value) <> 0
            then format('%s %s counts months, which have no fixed length', "column", value)
        when minimum = '0' and value < minimum then format('%s %s is below 0', "column", value)
        when value < minimum then format('%s %s is shorter than the least of %s', "column", value, minimum)
        when value > interval '36525 days' then format('%s %s is longer than the limit of 36525 days', "column", value)
    end;
end $$;

-- Workers cannot represent an infinite time.
create function watchbell.time_problem("column" text, value timestamptz) returns text
language sql stable set search_path = watchbell, pg_temp
return case when value < '0001-01-01 00:00Z' or value >= '9999-01-01 00:00Z'
    then format('%s %s is outside the years 1 to 9998', "column", value) end;

create function watchbell.length_problem("column" text, value text, maximum integer) returns text
language sql immutable set search_path = watchbell, pg_temp
return case when octet_length(value) > maximum
    then format('%s is %s bytes, more than the limit of %s', "column", octet_length(value), maximum) end;

create function watchbell.range_problem("column" text, value bigint, minimum bigint, maximum bigint default null)
returns text language sql immutable set search_path = watchbell, pg_temp
return case
    when value < minimum and maximum is null then format('%s %s is below %s', "column", value, minimum)
    when value not between minimum and maximum
        then format('%s %s is out of range %s-%s', "column", value, minimum, maximum)
end;

create function watchbell.choice_problem("column" text, value text, choices text[]) returns text
language sql immutable set search_path = watchbell, pg_temp
return case when value <> all (choices)
    then format('%s "%s" is not one of %s', "column", watchbell.shown(value), array_to_string(choices, ', ')) end;

create function watchbell.key_problem("column" text, value text) returns text
language sql immutable set search_path = watchbell, pg_temp
return case
    when value = '' then format('%s is empty', "column")
    else watchbell.length_problem("column", value, 256)
end;

-- Workers read tags as a plain list of texts.
create function watchbell.tags_problem(tags text[]) returns text
language sql immutable set search_path = watchbell, pg_temp
return case
    when array_ndims(tags) > 1 then 'tags must be a plain list'
    when array_position(tags, null) is not null then 'tags must not contain NULL'
    when cardinality(tags) > 100 then format('tags has %s entries, more than the limit of 100', cardinality(tags))
    when octet_length(array_to_string(tags, '')) > 8192 then 'tags are longer than the limit of 8192 bytes'
end;

-- Label pairs without blanks: 'host = a, zone=b' becomes 'host=a,zone=b'. NULL when it is no selector.
create function watchbell.selector(target text) returns text
language sql immutable strict set search_path = watchbell, pg_temp
return (select case when octet_length(s) <= 256
                     and s ~ '^[A-Za-z0-9][A-Za-z0-9._/-]*=[^\s,=]+(,[A-Za-z0-9][A-Za-z0-9._/-]*=[^\s,=]+)*$' then s end
        from regexp_replace(btrim(target, E' \t\r\n'), '\s*([,=])\s*', '\1', 'g') s);

-- {"strategy": "exponential|linear|fixed|list", "base": "5s", "max": "1h", "jitter": true, "list": ["1s"]}
create function watchbell.retry_problem(retry jsonb) returns text
language plpgsql immutable strict set search_path = watchbell, pg_temp as $$
declare
    wrong text;
begin
    if jsonb_typeof(retry) <> 'object' then
        return format('retry must be a JSON object (got %s)', jsonb_typeof(retry));
    end if;
    select k into wrong from jsonb_object_keys(retry) k where k <> all ('{strategy,base,max,jitter,list}') limit 1;
    if found then
        return format('retry has an unknown key "%s"', watchbell.shown(wrong));
    end if;
    if retry ? 'strategy' and coalesce(retry->>'strategy', '') <> all ('{exponential,linear,fixed,list}') then
        return watchbell.choice_problem('retry strategy', coalesce(retry->>'strategy', ''),
                                        '{exponential,linear,fixed,list}');
    end if;
    if retry ? 'jitter' and jsonb_typeof(retry->'jitter') <> 'boolean' then
        return format('retry jitter must be true or false (got %s)', watchbell.shown((retry->'jitter')::text));
    end if;
    if (retry->>'strategy' is not distinct from 'list') <> (retry ? 'list') then
        return 'retry strategy "list" and a "list" of waits belong together';
    end if;
    if retry ? 'list' and (jsonb_typeof(retry->'list') <> 'array'
            or jsonb_array_length(retry->'list') not between 1 and 100) then
        return 'retry list must be an array of 1 to 100 waits';
    end if;
    select w.value::text into wrong
    from (select value from jsonb_each(retry) where key in ('base', 'max')
          union all
          select value from jsonb_array_elements(case when retry ? 'list' then retry->'list' else '[]' end)) w
    where jsonb_typeof(w.value) <> 'string'
       or coalesce(watchbell.interval_problem('', watchbell.duration(w.value #>> '{}'), '1 ms'), '') <> ''
       or watchbell.duration(w.value #>> '{}') is null
    limit 1;
    if found then
        return format('retry wait %s is not a duration such as "5s", "1h30m" or "2 days"', watchbell.shown(wrong));
    end if;
    return null;
end $$;

-- The columns that say how work is done, the same in runs and schedules. NULL passes: it is a default.
-- The caller puts the row's name before the sentence. A name's length is no `{0,127}` in its pattern: that costs 13 us.
create function watchbell.work_refusal(
    handler text, payload jsonb, queue text, priority integer, max_attempts integer, retry jsonb,
    timeout interval, concurrency_key text, target text, tags text[]
) returns watchbell.refusal language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    problem text;
begin
    if handler is null or handler !~ '^\S(.*\S)?$' then
        return watchbell.refused('handler', 'handler is missing',
            'Name the handler that does the work: sql or one of your own.');
    elsif octet_length(handler) > 256 then
        return watchbell.refused('handler', watchbell.length_problem('handler', handler, 256),
            'Name the handler that does the work: sql or one of your own.');
    elsif jsonb_typeof(payload) <> 'object' then
        return watchbell.refused('payload', format('payload must be a JSON object (got %s)', jsonb_typeof(payload)),
            'Wrap the value: {"value": ...}.', '22023');
    -- As text, because that is how it travels: 1e100000 is short in storage and long on the wire.
    elsif octet_length(payload::text) > 1048576 then
        return watchbell.refused('payload', watchbell.length_problem('payload', payload::text, 1048576),
            'Store large data elsewhere and pass its address.');
    elsif queue !~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' or length(queue) > 128 then
        return watchbell.refused('queue', format('queue "%s" is not a valid name', watchbell.shown(queue)),
            'A name has 1 to 128 letters, digits and . _ : - and begins with a letter or digit.', '22023');
    elsif priority not between 0 and 9 then
        return watchbell.refused('priority', format('priority %s is out of range 0-9 (0 runs first)', priority),
            'The default is 5.');
    elsif max_attempts not between 1 and 100 then
        return watchbell.refused('max_attempts', watchbell.range_problem('max_attempts', max_attempts, 1, 100),
            '1 means that a failed run is not tried again.');
    end if;
    if timeout is not null then
        problem := watchbell.interval_problem('timeout', timeout, '1 ms');
        if problem is not null then
            return watchbell.refused('timeout', problem, 'NULL means no timeout.');
        end if;
    end if;
    if retry is not null then
        problem := watchbell.retry_problem(retry);
        if problem is not null then
            return watchbell.refused('retry', problem,
                'Example: {"strategy": "exponential", "base": "5s", "max": "1h", "jitter": true}.', '22023');
        end if;
    end if;
    if concurrency_key is not null then
        problem := watchbell.key_problem('concurrency_key', concurrency_key);
        if problem is not null then
            return watchbell.refused('concurrency_key', problem, 'Runs with one key share its limit; NULL means none.');
        end if;
    end if;
    if target is not null and watchbell.selector(target) is null then
        return watchbell.refused('target', format('target "%s" is not a label selector', watchbell.shown(target)),
            'Write label=value[,label=value], such as host=db1 or zone=a,disk=ssd.', '22023');
    end if;
    if tags is not null then
        problem := watchbell.tags_problem(tags);
        if problem is not null then
            return watchbell.refused('tags', problem, 'Write a list of short texts: ''{nightly,billing}''.', '22023');
        end if;
    end if;
    return null;
end $$;

insert into watchbell.migrations (version, name, checksum, min_build) values (4, '0004_checks', '3ff0850ef33144c1', 1);
commit;

-- 0005_runs_view
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- `watchbell.runs`: one relation for people over the engine's two tables. It shows a run's whole life
-- and takes INSERT and COPY; a row that cannot run is refused in one sentence, before anything waits
-- for it. Limits: no foreign key can point at a view, and ON CONFLICT takes no target.

create view watchbell.runs as
select r.id, r.handler, r.payload, r.status, r.queue, r.priority, r.run_at, r.started_at,
       null::timestamptz as finished_at, r.attempt, r.max_attempts, r.error, r.retry, r.timeout,
       r.unique_key, r.concurrency_key, r.target, r.tags, r.trigger, r.schedule_id, r.schedule_name, r.fire_at,
       r.start_deadline, r.retry_of,
       (select min(q.requested_at) from watchbell.worker_requests q where q.run_id = r.id) as cancel_requested_at,
       r.claimed_by, r.fence, r.crashes, r.created_at, r.created_by
from watchbell.runs_live r
union all
select r.id, r.handler, r.payload, r.status, r.queue, r.priority, r.run_at, r.started_at,
       r.finished_at, r.attempt, r.max_attempts, r.error, r.retry, r.timeout,
       r.unique_key, r.concurrency_key, r.target, r.tags, r.trigger, r.schedule_id, r.schedule_name, r.fire_at,
       r.start_deadline, r.retry_of,
       (select min(q.requested_at) from watchbell.worker_requests q where q.run_id = r.id),
       r.claimed_by, r.fence, r.crashes, r.created_at, r.created_by
from watchbell.runs_finished r;

-- The same as of runs_live. `timeout` needs it here: left out it is an hour, an explicit NULL is none.
alter view watchbell.runs alter column payload set default '{}';
alter view watchbell.runs alter column status set default 'pending';
alter view watchbell.runs alter column queue set default 'default';
alter view watchbell.runs alter column priority set default 5;
alter view watchbell.runs alter column run_at set default now();
alter view watchbell.runs alter column max_attempts set default 3;
alter view watchbell.runs alter column timeout set default '1 hour';

-- Why a row of the view is refused, in whole sentences; all NULL when it is accepted.
create function watchbell.run_refusal(run watchbell.runs) returns watchbell.refusal
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
begin
    select key,
           format('column "%s" of runs is set by watchbell and cannot be given (got "%s")',
                  key, watchbell.shown(value)),
           'Columns you may set: handler, payload, queue, priority, run_at, max_attempts, retry, timeout, '
           'start_deadline, unique_key, concurrency_key, target, tags.',
           '22023'
    into refusal
    from jsonb_each_text(to_jsonb(run))
    where case key when 'status' then value <> 'pending'
                   else value is not null and key <> all (
                        '{handler,payload,queue,priority,run_at,max_attempts,retry,timeout,start_deadline,unique_key,'
                        'concurrency_key,target,tags}') end
    limit 1;
    if found then
        return refusal;
    end if;

    if octet_length(run.unique_key) not between 1 and 256 then
        refusal := watchbell.refused('unique_key', watchbell.key_problem('unique_key', run.unique_key),
            'While a run with this key is open, another is not inserted; NULL means none.');
    elsif run.run_at < '0001-01-01 00:00Z' or run.run_at >= '9999-01-01 00:00Z' then
        refusal := watchbell.refused('run_at', watchbell.time_problem('run_at', run.run_at), 'The default is now().');
    elsif run.start_deadline < '0001-01-01 00:00Z' or run.start_deadline >= '9999-01-01 00:00Z' then
        refusal := watchbell.refused('start_deadline', watchbell.time_problem('start_deadline', run.start_deadline),
            'NULL means that it may start however late.');
    else
        refusal := watchbell.work_refusal(run.handler, run.payload, run.queue, run.priority, run.max_attempts,
                                          run.retry, run.timeout, run.concurrency_key, run.target, run.tags);
    end if;
    if refusal is not null then
        refusal.sentence :=
            format('run%s: %s', ' for handler "' || watchbell.shown(run.handler) || '"', refusal.sentence);
    end if;
    return refusal;
end $$;

create function watchbell.runs_insert() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
begin
    -- Most rows set few columns and are sound: one expression lets them pass. It knows less than run_refusal, which
    -- looks at all others; every expression more costs a transaction of one row 1.5 us, a call of a function 10 us.
    if (new.status = 'pending'
        and num_nonnulls(new.id, new.started_at, new.finished_at, new.attempt, new.error, new.trigger, new.schedule_id,
                         new.schedule_name, new.fire_at, new.retry_of, new.cancel_requested_at, new.claimed_by,
                         new.fence, new.crashes, new.created_at, new.created_by, new.retry, new.start_deadline,
                         new.concurrency_key, new.target, new.tags) = 0
        and length(new.handler) <= 64 and new.handler ~ '^[A-Za-z0-9._:/-]+$'
        and jsonb_typeof(new.payload) = 'object' and octet_length(new.payload::text) <= 1048576
        and new.queue = 'default' and new.priority between 0 and 9 and new.max_attempts between 1 and 100
        and new.timeout = '1 hour' and new.run_at between '2000-01-01 00:00Z' and '9000-01-01 00:00Z'
        and coalesce(octet_length(new.unique_key) between 1 and 256, true)) is not true then
        refusal := watchbell.run_refusal(new);
        if refusal is not null then
            raise exception using message = refusal.sentence, hint = refusal.hint, errcode = refusal.code,
                schema = 'watchbell', table = 'runs', column = refusal."column";
        end if;
        new.queue := coalesce(new.queue, 'default');
        if not exists (select from watchbell.queues q where q.name = new.queue) then
            insert into watchbell.queues (name) values (new.queue) on conflict do nothing;
        end if;
        if new.concurrency_key is not null then
            insert into watchbell.limits (key) values (new.concurrency_key) on conflict do nothing;
        end if;
    end if;

    insert into watchbell.runs_live as r (handler, payload, queue, priority, run_at, max_attempts, retry, timeout,
        start_deadline, unique_key, concurrency_key, target, tags, created_by)
    values (new.handler, coalesce(new.payload, '{}'), new.queue, coalesce(new.priority, 5), coalesce(new.run_at, now()),
        coalesce(new.max_attempts, 3), new.retry, new.timeout, new.start_deadline, new.unique_key, new.concurrency_key,
        case when new.target is not null then watchbell.selector(new.target) end, new.tags, session_user)
    on conflict (unique_key) where unique_key is not null do nothing
    returning r.id, r.handler, r.payload, r.status, r.queue, r.priority, r.run_at, r.started_at,
        null::timestamptz, r.attempt, r.max_attempts, r.error, r.retry, r.timeout,
        r.unique_key, r.concurrency_key, r.target, r.tags, r.trigger, r.schedule_id, r.schedule_name, r.fire_at,
        r.start_deadline, r.retry_of, null::timestamptz, r.claimed_by, r.fence, r.crashes, r.created_at, r.created_by
    into new;
    -- Where an open run has this unique_key already, nothing is inserted, and it is no error.
    return case when found then new end;
end $$;

create trigger runs_insert instead of insert on watchbell.runs
for each row execute function watchbell.runs_insert();

create function watchbell.runs_readonly() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
begin
    raise exception using errcode = '55000', schema = 'watchbell', table = 'runs',
        message = format('run %s cannot be %s by hand: use watchbell.cancel(%s)', old.id,
                         case tg_op when 'DELETE' then 'deleted' else 'changed' end, old.id),
        hint = 'A changed run is a new one: cancel this and insert another. Finished runs go after the retention.';
end $$;

create trigger runs_readonly instead of update or delete on watchbell.runs
for each row execute function watchbell.runs_readonly();

insert into watchbell.migrations (version, name, checksum, min_build) values (5, '0005_runs_view', 'a0d439e5d168b8d1', 1);
commit;

-- 0006_cron
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- The grammar of cron expressions and time zone names, checked while the row is written. Nothing is
-- expanded: `1-100000000` costs no more than `1-5`. Whether an expression ever fires needs a calendar
-- and is found by the worker that takes the schedule up.
--
-- expression = [("TZ=" | "CRON_TZ=") zone blank] (nickname | "@every" duration | 5, 6 or 7 fields)
-- fields     = [second] minute hour day-of-month month day-of-week [year]; 5 have neither end, 7 have both
-- field      = term {"," term}     term = ("*" | n | n"-"n) ["/" step]; n/step means n-max/step
-- month JAN..DEC; day-of-week SUN..SAT or 0-7, where 0 and 7 are Sunday; names in any case
-- day-of-month also ? L LW nW; day-of-week also ? n#k n#L nL and a leading + (both day fields must match)

-- The range of a field, the names of its numbers from the lowest on, and both as a sentence says them.
create function watchbell.cron_range(field text, out low integer, out high integer, out names text[], out allowed text)
language plpgsql immutable set search_path = watchbell, pg_temp as $$
begin
    case field
        when 'second', 'minute' then low := 0; high := 59;
        when 'hour' then low := 0; high := 23;
        when 'day of month' then low := 1; high := 31;
        when 'month' then low := 1; high := 12; names := '{JAN,FEB,MAR,APR,MAY,JUN,JUL,AUG,SEP,OCT,NOV,DEC}';
        when 'day of week' then low := 0; high := 7; names := '{SUN,MON,TUE,WED,THU,FRI,SAT}';
        when 'year' then low := 1970; high := 2199;
    end case;
    allowed := low || '-' || high || coalesce(' or ' || names[1] || '-' || names[cardinality(names)], '');
end $$;

-- One number or name.
create function watchbell.cron_number(field text, value text, out n integer, out problem text)
language plpgsql immutable set search_path = watchbell, pg_temp as $$
declare
    range constant record := watchbell.cron_range(field);
begin
    n := array_position(range.names, upper(value collate "C")) - 1 + range.low;
    if n is not null then
        return;
    elsif value !~ '^[0-9]+$' then
        problem := format('%s "%s" is not one of %s', field, watchbell.shown(value), range.allowed);
        return;
    end if;
    n := case when length(ltrim(value, '0')) > 8 then 99999999 else value::integer end;
    if n not between range.low and range.high then
        problem := format('%s "%s" is out of range %s-%s', field, watchbell.shown(value), range.low, range.high);
    end if;
end $$;

-- `*`, `n`, `n-m`, each perhaps with `/step`.
create function watchbell.cron_term_problem(field text, term text) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
declare
    range constant record := watchbell.cron_range(field);
    -- Sunday has two numbers; a step still walks seven days.
    size constant integer := case field when 'day of week' then 7 else range.high - range.low + 1 end;
    numbers constant text := split_part(term, '/', 1);
    step constant text := substr(term, length(numbers) + 2);
    low record;
    high record;
begin
    if term = '' then
        return format('%s has an empty item (allowed %s)', field, range.allowed);
    elsif strpos(term, '/') > 0 then
        if step !~ '^[0-9]+$' then
            return format('%s step "%s" is not a number 1-%s', field, watchbell.shown(step), size);
        elsif length(ltrim(step, '0')) not between 1 and 3 or step::integer > size then
            return format('%s step "%s" is out of range 1-%s%s', field, watchbell.shown(step), size,
                case when step ~ '[1-9]' then ' (for longer periods use fixed_rate)' else '' end);
        elsif numbers = '' then
            return format('%s "%s" has no start before its step (allowed %s)',
                          field, watchbell.shown(term), range.allowed);
        end if;
    end if;
    if numbers = '*' then
        return null;
    end if;
    low := watchbell.cron_number(field, split_part(numbers, '-', 1));
    if low.problem is not null or strpos(numbers, '-') = 0 then
        return low.problem;
    end if;
    high := watchbell.cron_number(field, substr(numbers, strpos(numbers, '-') + 1));
    if high.problem is null and low.n > high.n then
        return format('%s "%s" runs backwards (allowed %s)', field, watchbell.shown(numbers), range.allowed);
    end if;
    return high.problem;
end $$;

-- A whole field: terms with commas between them, and what the two day fields may say besides.
create function watchbell.cron_field_problem(field text, value text) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
declare
    term text;
    problem text;
begin
    if field = 'day of week' then
        value := regexp_replace(value, '^\+', '');
    end if;
    if value = '?' and field in ('day of month', 'day of week') then
        return null;
    end if;
    foreach term in array case value when '' then array[''] else string_to_array(value, ',') end loop
        problem := case
            when field = 'day of month' and term ~* '^LW?$' then null
            when field = 'day of month' and term ~* 'W$' then (watchbell.cron_number(field, left(term, -1))).problem
            when field = 'day of week' and strpos(term, '#') > 0 then
                case when substr(term, strpos(term, '#') + 1) ~ '^[1-5Ll]$'
                     then (watchbell.cron_number(field, split_part(term, '#', 1))).problem
                     else format('%s "%s" has no week 1-5 or L after "#"', field, watchbell.shown(term)) end
            when field = 'day of week' and term ~* '^L$' then
                format('%s "%s" names no weekday: write 6L for the last Saturday', field, term)
            when field = 'day of week' and term ~* 'L$' then (watchbell.cron_number(field, left(term, -1))).problem
            else watchbell.cron_term_problem(field, term)
        end;
        exit when problem is not null;
    end loop;
    return problem;
end $$;

-- The nearest thing that is valid, for a hint: cut the field from its end until it is, so 25 becomes 2.
create function watchbell.cron_field_like(field text, value text) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
begin
    while value <> '' and watchbell.cron_field_problem(field, value) is not null loop
        value := left(value, -1);
    end loop;
    return coalesce(nullif(value, ''), '*');
end $$;

-- The period of `@every 5m`, in whole seconds and at least one; NULL when it is no such thing.
create function watchbell.every(expression text) returns interval
language sql immutable set search_path = watchbell, pg_temp
return (select make_interval(secs => greatest(floor(extract(epoch from d)), 1)::double precision)
        from watchbell.duration(substring(expression from
            '^[ \t\r\n\f]*(?:(?:CRON_)?TZ=[^ \t\r\n\f]+[ \t\r\n\f]+)?@every[ \t\r\n\f]+(.*)$')) d
        where d >= '0' and d <= '36525 days');

-- What is wrong with a cron expression, and a hint; both NULL when it is well formed. The sentences are those
-- of the worker's own parser.
create function watchbell.cron_problem(expression text, out problem text, out hint text)
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    trimmed constant text := btrim(expression, E' \t\r\n\f');
    prefix constant text := coalesce(substring(trimmed from '^(?:CRON_)?TZ=[^ \t\r\n\f]*[ \t\r\n\f]*'), '');
    zone constant text := substring(prefix from '=([^ \t\r\n\f]*)');
    body constant text := substr(trimmed, length(prefix) + 1);
    names text[] := '{second,minute,hour,day of month,month,day of week,year}';
    fields text[];
begin
    if octet_length(expression) > 256 then
        problem := format('it has %s bytes, at most 256 are allowed', octet_length(expression));
        hint := 'Split it into several schedules.';
        return;
    elsif not watchbell.is_timezone(zone) then
        problem := format('timezone "%s" is unknown', watchbell.shown(zone));
        hint := watchbell.timezone_hint(zone);
        return;
    elsif body ~ '^@every[ \t\r\n\f]' then
        if watchbell.every(body) is null then
            problem := format('"%s" is not a duration', watchbell.shown(substring(body from '^@every\s+(.*)$')));
            hint := 'Try: @every 90s, @every 1h30m or @every 1d.';
        end if;
        return;
    elsif body ~ '^@' then
        if body not in ('@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly') then
            problem := format('"%s" is not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly',
                              watchbell.shown(body));
            hint := case body when '@reboot' then 'For once, now, set run_at to now().'
                              else 'For a period write @every 90s, or set fixed_rate.' end;
        end if;
        return;
    end if;

    fields := case when body = '' then '{}' else regexp_split_to_array(body, '[ \t\r\n\f]+') end;
    if cardinality(fields) not between 5 and 7 then
        problem := format('expected 5, 6 or 7 fields, found %s', cardinality(fields));
        hint := 'Order: minute hour day-of-month month day-of-week; a second goes before, a year after. '
                'Try: watchbell cron explain ''0 2 * * *''';
        return;
    end if;
    names := case cardinality(fields) when 5 then names[2:6] when 6 then names[1:6] else names end;
    for i in 1..cardinality(fields) loop
        problem := coalesce(problem, watchbell.cron_field_problem(names[i], fields[i]));
        fields[i] := watchbell.cron_field_like(names[i], fields[i]);
    end loop;
    if problem is not null then
        hint := format('Order: %s. Try: watchbell cron explain %L',
            translate(array_to_string(names, ','), ' ,', '- '), prefix || array_to_string(fields, ' '));
    end if;
end $$;

-- Whether a name is one that PostgreSQL and the workers read alike: UTC or Area/Location. AT TIME ZONE
-- alone takes `foo5` for a POSIX zone; a POSIX zone needs a digit, so a name without one is safe to ask,
-- and the only names with digits are those of Etc. pg_timezone_names, which reads every file, is not asked.
create function watchbell.is_timezone(zone text) returns boolean
language plpgsql stable strict set search_path = watchbell, pg_temp as $$
begin
    if zone = 'UTC' then
        return true;
    elsif zone ~* '^Etc/GMT' then
        return zone ~* '^Etc/GMT([+-]?0|\+[1-9]|\+1[0-2]|-[1-9]|-1[0-4])?$';
    elsif octet_length(zone) > 64 or zone !~ '^[A-Za-z_]+(/[A-Za-z_-]+){1,2}$' or zone ~* '^(posix|right)/' then
        return false;
    end if;
    perform timestamptz 'epoch' at time zone zone;
    return true;
exception when invalid_parameter_value then
    return false;
end $$;

-- A hint for an unknown zone: the same city elsewhere, a name that contains it, or the same beginning.
create function watchbell.timezone_hint(zone text) returns text
language sql stable set search_path = watchbell, pg_temp
begin atomic
    with wanted as (
        select lower(zone) as name, lower(regexp_replace(btrim(zone), '^.*/', '')) as place
    )
    select coalesce(
        (select format('Did you mean "%s"?', z.name)
         from wanted w, pg_catalog.pg_timezone_names z,
              lateral (select lower(z.name) as name, lower(regexp_replace(z.name, '^.*/', '')) as place) l
         where z.name ~ '^[A-Z][A-Za-z_]+(/[A-Za-z_-]+){1,2}$' and length(w.place) >= 3
           and (strpos(replace(l.name, '_', ''), translate(w.place, '_ ', '')) > 0
                or left(l.place, 4) = left(w.place, 4))
         order by l.place = w.place desc, strpos(l.name, w.place) > 0 desc,
                  split_part(l.name, '/', 1) = split_part(w.name, '/', 1) desc, length(z.name), z.name
         limit 1),
        'Use UTC or an Area/Location name such as Europe/Paris: SELECT name FROM pg_timezone_names;');
end;

insert into watchbell.migrations (version, name, checksum, min_build) values (6, '0006_cron', 'fe74f5411e829d41', 1);
commit;

-- 0007_schedule_rows
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- A schedule's row is refused at once when it cannot work, and an edit is planned anew by the worker
-- that sees it next. Triggers name their columns, so the engine's own writes (wake_at, status, last_*,
-- counters) run none of this.

-- 1. Check, and bring into the stored form.
create function watchbell.schedule_refusal(s watchbell.schedules) returns watchbell.refusal
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    subject constant text := format('schedule "%s"', watchbell.shown(s.name));
    specs text;
    refusal watchbell.refusal;
begin
    if s.name is null then
        return watchbell.refused('name', 'schedule has no name',
            'A name has 1 to 128 letters, digits and . _ : - and begins with a letter or digit.', '22023');
    elsif s.name !~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' or length(s.name) > 128 then
        return watchbell.refused('name', subject || ': this is not a valid name',
            'A name has 1 to 128 letters, digits and . _ : - and begins with a letter or digit.', '22023');
    elsif num_nonnulls(s.cron, s.fixed_delay, s.fixed_rate, s.run_at) <> 1 then
        select string_agg(name, ' + ') into specs
        from (values ('cron', s.cron), ('fixed_delay', s.fixed_delay::text), ('fixed_rate', s.fixed_rate::text),
                     ('run_at', s.run_at::text)) v (name, value)
        where value is not null;
        return watchbell.refused('cron',
            format('%s must set exactly one of cron, fixed_delay, fixed_rate, run_at (got %s)',
                   subject, coalesce(specs, 'none')),
            'Example: INSERT INTO watchbell.schedules (name, cron, handler) '
            'VALUES (''nightly'', ''0 2 * * *'', ''report'');');
    end if;

    if s.cron is not null then
        select 'cron', format('invalid cron expression "%s": %s', watchbell.shown(s.cron), c.problem), c.hint, '22023'
        into refusal from watchbell.cron_problem(s.cron) c where c.problem is not null;
        if found then
            return refusal;
        end if;
    end if;
    if not watchbell.is_timezone(s.timezone) then
        return watchbell.refused('timezone',
            format('unknown timezone "%s" for %s', watchbell.shown(s.timezone), subject),
            watchbell.timezone_hint(s.timezone), '22023');
    end if;

    refusal := watchbell.work_refusal(s.handler, s.payload, s.queue, s.priority, s.max_attempts, s.retry,
        s.timeout, s.concurrency_key, s.target, s.tags);
    if refusal is not null then
        refusal.sentence := subject || ': ' || refusal.sentence;
        return refusal;
    end if;

    select v."column", subject || ': ' || v.problem, v.hint, '23514' into refusal from (values
        ('fixed_delay', watchbell.interval_problem('fixed_delay', s.fixed_delay, '1 s'),
            'For months use cron, such as 0 0 1 * *.'),
        ('fixed_rate', watchbell.interval_problem('fixed_rate', s.fixed_rate, '1 s'),
            'For months use cron, such as 0 0 1 * *.'),
        ('run_at', watchbell.time_problem('run_at', s.run_at), 'Example: now() + ''1 hour''.'),
        ('dst', watchbell.choice_problem('dst', s.dst, '{once,literal}'),
            'At a clock change once runs each time once, literal as often as the clock shows it.'),
        ('overlap', watchbell.choice_problem('overlap', s.overlap, '{allow,skip,queue_one,queue_all,cancel_running}'),
            'What a fire time does while a run of this schedule is open.'),
        ('max_running', watchbell.range_problem('max_running', s.max_running, 1, 100), 'The default is 1.'),
        ('misfire', watchbell.choice_problem('misfire', s.misfire, '{fire_once,skip,catch_up}'),
            'What becomes of fire times that passed while nobody could act.'),
        ('misfire_grace', watchbell.interval_problem('misfire_grace', s.misfire_grace, '0'),
            'How late misfire = skip may still act.'),
        ('catch_up_window', watchbell.interval_problem('catch_up_window', s.catch_up_window, '0'),
            'How far back misfire = catch_up reaches.'),
        ('catch_up_limit', watchbell.range_problem('catch_up_limit', s.catch_up_limit, 1, 1000),
            'The default is 100.'),
        ('start_deadline', watchbell.interval_problem('start_deadline', s.start_deadline, '1 ms'),
            'NULL means that a run may start however late.'),
        ('jitter', watchbell.interval_problem('jitter', s.jitter, '0'), 'The default is 0: no jitter.'),
        ('pause_after_failures', watchbell.range_problem('pause_after_failures', s.pause_after_failures, 1),
            'NULL means never.'),
        ('first_fire', watchbell.choice_problem('first_fire', s.first_fire, '{after_period,at_once}'),
            'When a new fixed_delay or fixed_rate acts first.'),
        ('starts_at', watchbell.time_problem('starts_at', s.starts_at), 'NULL means at once.'),
        ('ends_at', watchbell.time_problem('ends_at', s.ends_at), 'NULL means never.'),
        ('ends_at', case when s.ends_at <= s.starts_at
            then format('ends_at %s is not after starts_at %s', s.ends_at, s.starts_at) end, 'NULL means never.'),
        ('max_fires', watchbell.range_problem('max_fires', s.max_fires, 1), 'NULL means no limit.'),
        ('description', watchbell.length_problem('description', s.description, 8192),
            'Put longer text behind runbook_url.'),
        ('owner', watchbell.length_problem('owner', s.owner, 256), 'A person, team or address.'),
        ('runbook_url', watchbell.length_problem('runbook_url', s.runbook_url, 2048), 'An address.'),
        ('managed_by', watchbell.length_problem('managed_by', s.managed_by, 256),
            'What writes this row, such as a file or a program.')
    ) v ("column", problem, hint) where v.problem is not null limit 1;
    return refusal;
end $$;

create function watchbell.schedules_check() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
    every interval;
begin
    -- As in runs, NULL asks for the default; `timeout`, where it means none, is left alone.
    new.timezone := coalesce(new.timezone, 'UTC');
    new.dst := coalesce(new.dst, 'once');
    new.payload := coalesce(new.payload, '{}');
    new.queue := coalesce(new.queue, 'default');
    new.priority := coalesce(new.priority, 5);
    new.max_attempts := coalesce(new.max_attempts, 3);
    new.overlap := coalesce(new.overlap, 'allow');
    new.max_running := coalesce(new.max_running, 1);
    new.misfire := coalesce(new.misfire, 'fire_once');
    new.misfire_grace := coalesce(new.misfire_grace, '60 s');
    new.catch_up_window := coalesce(new.catch_up_window, '1 day');
    new.catch_up_limit := coalesce(new.catch_up_limit, 100);
    new.jitter := coalesce(new.jitter, '0');
    new.first_fire := coalesce(new.first_fire, 'after_period');
    new.tags := coalesce(new.tags, '{}');
    -- "@every 5m" is a period, counted from the last start: it is stored as one.
    every := watchbell.every(new.cron);
    if every is not null and new.fixed_rate is null then
        new.fixed_rate := every;
        new.cron := null;
    end if;

    refusal := watchbell.schedule_refusal(new);
    if refusal is not null then
        raise exception using message = refusal.sentence, hint = refusal.hint, errcode = refusal.code,
            schema = 'watchbell', table = 'schedules', column = refusal."column";
    end if;
    new.target := watchbell.selector(new.target);

    if (tg_op = 'INSERT' or new.handler is distinct from old.handler)
       and not exists (select from watchbell.handlers h where h.name = new.handler) then
        raise warning using
            message = format('no worker has ever registered handler "%s" (the schedule is accepted and will wait)',
                             watchbell.shown(new.handler)),
            hint = coalesce((select format('Known handlers: %s.', string_agg(h.name, ', '))
                             from (select name from watchbell.handlers order by name limit 20) h having count(*) > 0),
                            'No worker has registered any handler yet.');
    end if;
    return new;
end $$;

-- 2. Decide what a worker has to plan anew.
create function watchbell.schedules_plan() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    declared bigint;
    same boolean;
begin
    if tg_op = 'INSERT' then
        new.created_by := session_user;
        new.created_at := watchbell.clock();
        new.version := 1;
        new.anchor_at := null;
        new.fires_count := 0;
        new.consecutive_failures := 0;
        new.last_fire_at := null;
        new.last_started_at := null;
        new.last_success_at := null;
        new.last_finished_at := null;
        new.last_duration := null;
        new.last_status := null;
    else
        -- Every replica declares its schedules when it starts: the same again, if by a newer version of the program,
        -- is no edit. Generated columns are computed after this and are NULL here.
        declared := new.declared_version;
        new.declared_version := old.declared_version;
        new.kind := old.kind;
        new.next_fire_at := old.next_fire_at;
        same := new is not distinct from old;
        new.declared_version := declared;
        if same then
            return new;
        end if;
        new.version := old.version + 1;
    end if;
    new.updated_at := watchbell.clock();
    if tg_op = 'INSERT'
       or (new.cron, new.fixed_delay, new.fixed_rate, new.run_at, new.timezone, new.dst,
           new.starts_at, new.ends_at, new.first_fire, new.max_fires)
          is distinct from
          (old.cron, old.fixed_delay, old.fixed_rate, old.run_at, old.timezone, old.dst,
           old.starts_at, old.ends_at, old.first_fire, old.max_fires) then
        new.status := 'pending';
        new.error := null;
        new.wake_at := '-infinity';
        new.effective_from := watchbell.clock();
    end if;
    return new;
end $$;

-- 3. Resume: slots missed while paused are dropped, the next one is counted from now.
create function watchbell.schedules_resume() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
begin
    new.status := 'pending';
    new.error := null;
    new.wake_at := '-infinity';
    new.effective_from := watchbell.clock();
    new.paused_by := null;
    new.paused_until := null;
    new.pause_note := null;
    new.updated_at := watchbell.clock();
    return new;
end $$;

-- They fire in the order of their names.
create trigger schedules_1_check before insert or update of
    name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload, queue, priority, max_attempts, retry,
    timeout, overlap, max_running, misfire, misfire_grace, catch_up_window, catch_up_limit, start_deadline, jitter,
    pause_after_failures, concurrency_key, first_fire, starts_at, ends_at, max_fires, target, description, owner,
    runbook_url, tags, managed_by
on watchbell.schedules for each row execute function watchbell.schedules_check();

create trigger schedules_2_plan before insert or update of
    name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload, queue, priority, max_attempts, retry,
    timeout, overlap, max_running, misfire, misfire_grace, catch_up_window, catch_up_limit, start_deadline, jitter,
    pause_after_failures, concurrency_key, first_fire, starts_at, ends_at, max_fires, target, description, owner,
    runbook_url, tags, managed_by
on watchbell.schedules for each row execute function watchbell.schedules_plan();

create trigger schedules_3_resume before update of paused_at
on watchbell.schedules for each row when (old.paused_at is not null and new.paused_at is null)
execute function watchbell.schedules_resume();

-- Backstops, for a writer that has the triggers disabled.
alter table watchbell.schedules
    add constraint schedules_name check (name ~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' and length(name) <= 128),
    add constraint schedules_one_spec check (num_nonnulls(cron, fixed_delay, fixed_rate, run_at) = 1),
    add constraint schedules_cron check (octet_length(cron) <= 256),
    add constraint schedules_fixed_delay check (
        fixed_delay >= '1 s' and extract(month from fixed_delay) = 0 and extract(year from fixed_delay) = 0),
    add constraint schedules_fixed_rate check (
        fixed_rate >= '1 s' and extract(month from fixed_rate) = 0 and extract(year from fixed_rate) = 0),
    add constraint schedules_run_at check (isfinite(run_at)),
    add constraint schedules_dst check (dst in ('once', 'literal')),
    add constraint schedules_queue check (queue ~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' and length(queue) <= 128),
    add constraint schedules_priority check (priority between 0 and 9),
    add constraint schedules_max_attempts check (max_attempts between 1 and 100),
    add constraint schedules_timeout check (timeout > '0'),
    add constraint schedules_overlap check (overlap in ('allow', 'skip', 'queue_one', 'queue_all', 'cancel_running')),
    add constraint schedules_max_running check (max_running between 1 and 100),
    add constraint schedules_misfire check (misfire in ('fire_once', 'skip', 'catch_up')),
    add constraint schedules_misfire_grace check (misfire_grace >= '0'),
    add constraint schedules_catch_up_window check (catch_up_window >= '0'),
    add constraint schedules_catch_up_limit check (catch_up_limit between 1 and 1000),
    add constraint schedules_start_deadline check (start_deadline > '0'),
    add constraint schedules_jitter check (jitter >= '0'),
    add constraint schedules_pause_after_failures check (pause_after_failures >= 1),
    add constraint schedules_first_fire check (first_fire in ('after_period', 'at_once')),
    add constraint schedules_window check (starts_at < ends_at),
    add constraint schedules_max_fires check (max_fires >= 1),
    add constraint schedules_status check (status in ('pending', 'normal', 'done', 'invalid'));

-- The times that people read; infinities, which the engine uses for "at once" and "never", are NULL here.
create view watchbell.upcoming as
select s.name, s.kind, s.next_fire_at, s.next_fire_at - now() as starts_in, s.timezone, s.handler, s.queue
from watchbell.schedules s
where s.paused_at is null and s.next_fire_at is not null
order by s.next_fire_at;

insert into watchbell.migrations (version, name, checksum, min_build) values (7, '0007_schedule_rows', 'a8bda5c9f1dd9644', 1);
commit;

-- 0008_days
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- Day partitions of everything that is kept for a while and then dropped: finished runs, their errors
-- and output, and fire times. There is no default partition, so a day must exist before its first row;
-- workers make them two weeks ahead, and a writer that meets a missing one makes it and tries again.
-- All functions run as the schema's owner and wait at most 100 ms for a lock: a dump or a long read
-- holds up a DROP, and everything that queues behind the DROP, for no longer than that.

-- The tables in days, in the order in which their locks are taken.
create function watchbell.day_parents() returns text[]
language sql immutable set search_path = watchbell, pg_temp
return '{run_output,run_errors,fires,runs_finished}'::text[];

-- Makes one day (in UTC) of one table. True when it was missing.
create function watchbell.make_day(parent text, day date) returns boolean
language plpgsql security definer set search_path = watchbell, pg_temp set lock_timeout = '100ms' as $$
declare
    partition text;
begin
    if parent is null or parent <> all (watchbell.day_parents()) then
        raise exception using errcode = '22023',
            message = format('table "%s" has no days', watchbell.shown(coalesce(parent, ''))),
            hint = format('Tables in days: %s.', array_to_string(watchbell.day_parents(), ', '));
    elsif day is null or day not between '1970-01-01' and '9998-12-31' then
        raise exception using errcode = '22023', hint = 'Days are in UTC.',
            message = format('day %s is outside the years 1970 to 9998', coalesce(day::text, 'NULL'));
    end if;
    partition := parent || to_char(day, '"_"YYYYMMDD');
    if to_regclass('watchbell.' || partition) is not null then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('watchbell:days', 0));
    -- Did another worker make it while we waited? to_regclass would answer from the cache, which does not know yet.
    if exists (select from pg_catalog.pg_class c
               where c.relname = partition and c.relnamespace = 'watchbell'::regnamespace) then
        return false;
    end if;
    -- Attached, not created as a partition: CREATE TABLE .. PARTITION OF would lock every reader and writer out.
    -- Rows are only ever added, so vacuum has nothing to remove: it comes rarely, for the visibility map.
    execute format('create table watchbell.%I (like watchbell.%I including all excluding comments) with (
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000)', partition, parent);
    execute format('alter table watchbell.%I attach partition watchbell.%I for values from (%L) to (%L)',
        parent, partition, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
    return true;
end $$;

-- Makes the missing days of all tables, from yesterday to `ahead` days ahead; returns what was made.
create function watchbell.make_days(ahead integer default 14) returns setof text
language plpgsql security definer set search_path = watchbell, pg_temp set lock_timeout = '100ms' as $$
declare
    today constant date := (watchbell.clock() at time zone 'UTC')::date;
begin
    if ahead is null or ahead not between 0 and 400 then
        raise exception using errcode = '22023', hint = 'The default is 14.',
            message = format('ahead %s is out of range 0-400 days', coalesce(ahead::text, 'NULL'));
    end if;
    return query
    select parent || to_char(day, '"_"YYYYMMDD')
    from unnest(watchbell.day_parents()) with ordinality p (parent, position),
         lateral (select today + i as day from generate_series(-1, ahead) i offset 0) d
    where to_regclass('watchbell.' || parent || to_char(day, '"_"YYYYMMDD')) is null and watchbell.make_day(parent, day)
    order by position, day;
end $$;

-- Drops the days that ended more than `retention` ago, of one table or of all. One row for each: `problem` is
-- NULL when it is gone, else why it stays until the next call; no day stops the others. Call it for one table
-- at a time: its lock is held to the end of the transaction.
create function watchbell.drop_days(retention interval, parent text default null, out partition text, out problem text)
returns setof record
language plpgsql security definer set search_path = watchbell, pg_temp set lock_timeout = '100ms' as $$
declare
    before constant timestamptz :=
        watchbell.clock() - make_interval(secs => extract(epoch from retention)::double precision);
    relation text;
    expired text[];
    locked boolean;
begin
    if retention is null or retention < interval '1 day' then
        raise exception using errcode = '22023', hint = 'What is dropped cannot be brought back.',
            message = format('retention %s is shorter than the least of 1 day', coalesce(retention::text, 'NULL'));
    elsif parent <> all (watchbell.day_parents()) then
        raise exception using errcode = '22023',
            message = format('table "%s" has no days', watchbell.shown(parent)),
            hint = format('Tables in days: %s.', array_to_string(watchbell.day_parents(), ', '));
    end if;
    foreach relation in array case when parent is null then watchbell.day_parents() else array[parent] end loop
        expired := array(
            select c.relname
            from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
            where i.inhparent = ('watchbell.' || relation)::regclass
              and c.relname ~ ('^' || relation || '_[0-9]{8}$')
              and (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' <= before
            order by c.relname);
        continue when expired = '{}';
        locked := true;
        begin
            -- The one wait for this table. Whoever writes to it meanwhile waits behind us.
            execute format('lock table only watchbell.%I in access exclusive mode', relation);
        exception when lock_not_available then
            locked := false;
        end;
        foreach partition in array expired loop
            problem := format('%s is in use; it is dropped at a later call',
                              case when locked then partition else relation end);
            if locked then
                begin
                    execute format('lock table watchbell.%I in access exclusive mode nowait', partition);
                    execute format('drop table watchbell.%I', partition);
                    problem := null;
                exception when lock_not_available then
                    null; -- A dump or someone's query reads this day.
                end;
            end if;
            return next;
        end loop;
    end loop;
end $$;

revoke execute on function watchbell.make_day, watchbell.make_days, watchbell.drop_days from public;

select count(*) from watchbell.make_days();

insert into watchbell.migrations (version, name, checksum, min_build) values (8, '0008_days', '819a7f3c1c33231a', 1);
commit;

-- 0009_wake
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- A hint for workers that sleep; polling stays the truth. A NOTIFY in every transaction would make
-- durable commits wait for one another, so it is sent only when someone sleeps, and by one transaction
-- of each of eight stripes at a time: a worker once woken polls and sees the rows of the others.
--
-- Any sleeper of any queue counts. To ask only for the queues inserted into takes a transition table, which costs
-- the same for one row and 1 us (a fifth) for each row of a bulk insert.

create function watchbell.wake() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if exists (select from watchbell.queues q where q.sleepers_until > clock_timestamp()) then
        if pg_try_advisory_xact_lock(x'7763'::integer, pg_backend_pid() % 8) then
            perform pg_notify('watchbell', case tg_table_name when 'runs_live' then 'runs' else 'schedules' end);
        end if;
    end if;
    return null;
end $$;

create trigger runs_wake after insert on watchbell.runs_live
for each statement execute function watchbell.wake();

create trigger schedules_wake after insert or update of
    cron, fixed_delay, fixed_rate, run_at, timezone, dst, first_fire, starts_at, ends_at, max_fires, paused_at
on watchbell.schedules for each statement execute function watchbell.wake();

insert into watchbell.migrations (version, name, checksum, min_build) values (9, '0009_wake', '7c809e6100f7f35d', 1);
commit;

-- 0010_ends
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- Functions that end a run from outside a worker. Lock order, as everywhere: schedule, then run.

-- A run of a schedule has ended at `at`: what the schedule remembers of it, and the next time of a fixed delay, in
-- elapsed seconds (a day is 24 hours whatever the session's zone does). The caller holds the schedule's lock.
create function watchbell.schedule_ended(run watchbell.runs_live, ended_as text, at timestamptz) returns void
language sql set search_path = watchbell, pg_temp
begin atomic
    with planned as (
        select case when n.at >= s.ends_at or s.fires_count >= s.max_fires then 'infinity' else n.at end as wake_at
        from watchbell.schedules s,
             lateral (select greatest(at + make_interval(secs => extract(epoch from s.fixed_delay)::double precision),
                                  s.last_fire_at + interval '1 microsecond') as at) n
        where s.id = run.schedule_id and run.trigger = 'schedule'
          and s.kind = 'fixed_delay' and s.status = 'normal' and s.wake_at = 'infinity'
    )
    update watchbell.schedules s
    set last_status = ended_as,
        last_finished_at = at,
        last_started_at = greatest(s.last_started_at, run.started_at),
        last_duration = coalesce(at - run.started_at, s.last_duration),
        last_success_at = case when ended_as = 'normal' then at else s.last_success_at end,
        consecutive_failures = case when ended_as = 'normal' then 0 else s.consecutive_failures end,
        wake_at = coalesce((select p.wake_at from planned p), s.wake_at),
        status = case when (select p.wake_at from planned p) = 'infinity' then 'done' else s.status end
    where s.id = run.schedule_id;
end;

create function watchbell.move_to_finished(run watchbell.runs_live, ended_as text, error text, at timestamptz)
returns void language sql set search_path = watchbell, pg_temp
begin atomic
    insert into watchbell.runs_finished (
        id, run_at, created_at, started_at, finished_at, fence, claimed_by, attempt, priority, max_attempts, crashes,
        status, trigger, queue, handler, payload, timeout, retry, start_deadline, unique_key, concurrency_key, target,
        tags, error, schedule_id, schedule_name, fire_at, retry_of, created_by)
    values (
        run.id, run.run_at, run.created_at, run.started_at, at, run.fence, run.claimed_by, run.attempt, run.priority,
        run.max_attempts, run.crashes, ended_as, run.trigger, run.queue, run.handler, run.payload, run.timeout,
        run.retry, run.start_deadline, run.unique_key, run.concurrency_key, run.target, run.tags, error,
        run.schedule_id, run.schedule_name, run.fire_at, run.retry_of, run.created_by);
end;

-- Cancels a run. 'cancelled': it was waiting and is over. 'requested': it runs, and its worker has been asked to
-- stop it. 'finished': it was over already. An unknown id is an error.
create function watchbell.cancel(run_id bigint, reason text default null) returns text
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    run watchbell.runs_live;
    at timestamptz;
begin
    loop
        select r.* into run from watchbell.runs_live r where r.id = cancel.run_id;
        if not found then
            exit;
        elsif run.status = 'running' then
            insert into watchbell.worker_requests (request, run_id, reason)
            select 'cancel', run.id, cancel.reason
            where not exists (select from watchbell.worker_requests q
                              where q.run_id = run.id and q.request = 'cancel' and q.handled_at is null);
            return 'requested';
        end if;
        perform from watchbell.schedules s where s.id = run.schedule_id for no key update;
        delete from watchbell.runs_live r where r.id = run.id and r.status = 'pending' returning r.* into run;
        if found then
            at := watchbell.instant();
            perform watchbell.move_to_finished(run, 'cancelled',
                'cancelled by ' || session_user || coalesce(': ' || nullif(left(cancel.reason, 1000), ''), ''), at);
            perform watchbell.schedule_ended(run, 'cancelled', at);
            return 'cancelled';
        end if;
        -- A worker claimed or another session cancelled it meanwhile: look again.
    end loop;
    if exists (select from watchbell.runs_finished f where f.id = cancel.run_id) then
        return 'finished';
    end if;
    raise exception using errcode = 'P0002', schema = 'watchbell', table = 'runs', column = 'id',
        message = format('run %s does not exist', coalesce(cancel.run_id::text, 'NULL')),
        hint = 'List runs with: SELECT id, status, handler FROM watchbell.runs ORDER BY id DESC LIMIT 20;';
end $$;

-- Ends a running run as normal inside the caller's transaction, so that a handler's effects and the end of its
-- run are one commit. False when the run is no longer the caller's: then roll the effects back.
create function watchbell.finish_run(run_id bigint, fence bigint, worker_id integer) returns boolean
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    run watchbell.runs_live;
    at timestamptz;
begin
    perform from watchbell.schedules s
    where s.id = (select r.schedule_id from watchbell.runs_live r where r.id = finish_run.run_id) for no key update;
    delete from watchbell.runs_live r
    where r.id = finish_run.run_id and r.fence = finish_run.fence and r.claimed_by = finish_run.worker_id
    returning r.* into run;
    if not found then
        return false;
    end if;
    at := watchbell.instant();
    perform watchbell.move_to_finished(run, 'normal', null, at);
    update watchbell.limits l set running = l.running - 1 where l.key = run.concurrency_key and l.running > 0;
    perform watchbell.schedule_ended(run, 'normal', at);
    return true;
end $$;

revoke execute on function
    watchbell.cancel, watchbell.finish_run, watchbell.schedule_ended, watchbell.move_to_finished from public;

insert into watchbell.migrations (version, name, checksum, min_build) values (10, '0010_ends', 'e3a0c0718c858800', 1);
commit;

-- 0011_comments
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
-- What every table and column means, for `\d+` in psql and for every tool that shows comments.

comment on table watchbell.schedules is 'What to do and when. INSERT a row with name, handler and one of cron, fixed_delay, fixed_rate, run_at.';
comment on column watchbell.schedules.id is 'Number of the schedule, given by the system.';
comment on column watchbell.schedules.name is 'Unique name: 1 to 128 letters, digits and . _ : -';
comment on column watchbell.schedules.cron is 'Kind cron: 5 fields (minute hour day-of-month month day-of-week), 6 with seconds first, 7 with the year last, or @daily and the like.';
comment on column watchbell.schedules.fixed_delay is 'Kind fixed_delay: the next run starts this long after the last one ended. At least 1 second; a day is 24 hours.';
comment on column watchbell.schedules.fixed_rate is 'Kind fixed_rate: a run starts each such period, whether or not the last one ended. At least 1 second; a day is 24 hours.';
comment on column watchbell.schedules.run_at is 'Kind once: the one time it fires.';
comment on column watchbell.schedules.kind is 'cron, fixed_delay, fixed_rate or once; follows from the column that is set.';
comment on column watchbell.schedules.timezone is 'Zone of the cron fields: UTC or an Area/Location name such as Europe/Paris.';
comment on column watchbell.schedules.dst is 'Clock changes, for cron: once (a skipped time runs at the end of the gap, a repeated one once) or literal (as the clock shows).';
comment on column watchbell.schedules.handler is 'Name of the code that does the work: sql or one of your own.';
comment on column watchbell.schedules.payload is 'JSON object handed to the handler, at most 1 MiB.';
comment on column watchbell.schedules.queue is 'Queue its runs wait in.';
comment on column watchbell.schedules.priority is '0 runs first, 9 last.';
comment on column watchbell.schedules.max_attempts is 'How often a run is tried at most, 1-100.';
comment on column watchbell.schedules.retry is 'Wait between attempts: {"strategy": "exponential|linear|fixed|list", "base": "5s", "max": "1h", "jitter": true, "list": ["1s"]}; NULL is exponential from 5 s to 1 h.';
comment on column watchbell.schedules.timeout is 'Time limit of one attempt; NULL is none.';
comment on column watchbell.schedules.overlap is 'When a fire time comes while a run is open: allow, skip, queue_one, queue_all or cancel_running.';
comment on column watchbell.schedules.max_running is 'Open runs from which overlap applies, 1-100.';
comment on column watchbell.schedules.misfire is 'Fire times that passed while nobody could act: fire_once (the latest), skip, or catch_up (all within the window).';
comment on column watchbell.schedules.misfire_grace is 'How late misfire = skip may still act.';
comment on column watchbell.schedules.catch_up_window is 'How far back misfire = catch_up reaches.';
comment on column watchbell.schedules.catch_up_limit is 'Most runs that misfire = catch_up makes, 1-1000.';
comment on column watchbell.schedules.start_deadline is 'A run not started this long after its fire time is cancelled; NULL is never.';
comment on column watchbell.schedules.jitter is 'Longest delay of a run after its fire time, to spread load; the same fire time always gets the same delay.';
comment on column watchbell.schedules.pause_after_failures is 'Failed runs in a row after which the schedule pauses itself; NULL is never.';
comment on column watchbell.schedules.concurrency_key is 'Runs with one key share a limit of how many run at once; see limits.';
comment on column watchbell.schedules.first_fire is 'First fire time of fixed_delay and fixed_rate without starts_at: after_period or at_once.';
comment on column watchbell.schedules.starts_at is 'No fire time before this; the first one of fixed_delay and fixed_rate.';
comment on column watchbell.schedules.ends_at is 'No fire time from this on.';
comment on column watchbell.schedules.max_fires is 'Fire times after which it is done; NULL is no limit.';
comment on column watchbell.schedules.target is 'Label selector of the workers that may run it, such as zone=a,disk=ssd.';
comment on column watchbell.schedules.description is 'For people.';
comment on column watchbell.schedules.owner is 'Who answers for it.';
comment on column watchbell.schedules.runbook_url is 'Where it says what to do when it fails.';
comment on column watchbell.schedules.tags is 'For filters.';
comment on column watchbell.schedules.managed_by is 'What keeps this row, such as a file under version control; others then leave it alone.';
comment on column watchbell.schedules.status is 'pending (to be planned by a worker), normal (has a next fire time), done (can never fire again), invalid (see error). Written by the system.';
comment on column watchbell.schedules.error is 'Why status is invalid.';
comment on column watchbell.schedules.wake_at is 'When a worker next looks at this row: -infinity is at once, infinity is not before something happens. Written by the system.';
comment on column watchbell.schedules.next_fire_at is 'Next fire time, as planned; NULL when there is none.';
comment on column watchbell.schedules.anchor_at is 'First fire time of fixed_delay and fixed_rate, from which the others are counted.';
comment on column watchbell.schedules.effective_from is 'Fire times before this are no concern of the present definition: creation, the last edit of the times, or the last resume.';
comment on column watchbell.schedules.last_fire_at is 'Latest fire time that was decided.';
comment on column watchbell.schedules.last_started_at is 'When its latest run to end had started.';
comment on column watchbell.schedules.last_success_at is 'When a run last ended as normal.';
comment on column watchbell.schedules.last_finished_at is 'When a run last ended.';
comment on column watchbell.schedules.last_duration is 'How long its latest run to end took.';
comment on column watchbell.schedules.last_status is 'How its latest run ended: normal, failed or cancelled.';
comment on column watchbell.schedules.consecutive_failures is 'Failed runs since the last normal one.';
comment on column watchbell.schedules.fires_count is 'Fire times that made a run.';
comment on column watchbell.schedules.paused_at is 'Since when it makes no runs; set to NULL to resume.';
comment on column watchbell.schedules.paused_by is 'Who paused it.';
comment on column watchbell.schedules.paused_until is 'When it resumes by itself; NULL is never.';
comment on column watchbell.schedules.pause_note is 'Why it is paused.';
comment on column watchbell.schedules.version is 'Counts edits.';
comment on column watchbell.schedules.declared_version is 'Version of the program that declares it in code; an older program does not overwrite it.';
comment on column watchbell.schedules.created_by is 'Login that inserted it.';
comment on column watchbell.schedules.created_at is 'When it was inserted.';
comment on column watchbell.schedules.updated_at is 'When it was last edited, paused or resumed.';

comment on table watchbell.fires is 'One row for each fire time of a schedule and what became of it. In days; dropped after the retention.';
comment on column watchbell.fires.schedule_id is 'Which schedule.';
comment on column watchbell.fires.fire_at is 'The fire time as planned.';
comment on column watchbell.fires.disposition is 'run, caught_up, queued, skipped_overlap, skipped_misfire, coalesced or expired.';
comment on column watchbell.fires.run_id is 'The run it made, if any.';
comment on column watchbell.fires.until is 'Last fire time this row stands for, when it covers a gap.';
comment on column watchbell.fires.missed is 'How many fire times this row stands for beyond its own.';
comment on column watchbell.fires.decided_at is 'When a worker decided it.';

comment on view watchbell.runs is 'Every run through its whole life. INSERT a row with a handler to run it; COPY works. To end one: SELECT watchbell.cancel(id).';
comment on column watchbell.runs.id is 'Number of the run.';
comment on column watchbell.runs.handler is 'Name of the code that does the work: sql or one of your own.';
comment on column watchbell.runs.payload is 'JSON object handed to the handler, at most 1 MiB.';
comment on column watchbell.runs.status is 'pending, running; then normal, failed or cancelled, for good.';
comment on column watchbell.runs.queue is 'Queue it waits in.';
comment on column watchbell.runs.priority is '0 runs first, 9 last.';
comment on column watchbell.runs.run_at is 'It is not started before this.';
comment on column watchbell.runs.started_at is 'When the latest attempt started.';
comment on column watchbell.runs.finished_at is 'When it ended.';
comment on column watchbell.runs.attempt is 'Attempts started so far.';
comment on column watchbell.runs.max_attempts is 'Attempts after which it is failed, 1-100.';
comment on column watchbell.runs.error is 'Why the latest attempt failed, shortened.';
comment on column watchbell.runs.retry is 'Wait between attempts; see schedules.retry.';
comment on column watchbell.runs.timeout is 'Time limit of one attempt; NULL is none.';
comment on column watchbell.runs.unique_key is 'While a run with this key is open, another is not inserted.';
comment on column watchbell.runs.concurrency_key is 'Runs with one key share a limit of how many run at once; see limits.';
comment on column watchbell.runs.target is 'Label selector of the workers that may run it, such as zone=a,disk=ssd.';
comment on column watchbell.runs.tags is 'For filters.';
comment on column watchbell.runs.trigger is 'What made it: enqueue, schedule, catch_up, run_now, backfill or retry.';
comment on column watchbell.runs.schedule_id is 'Schedule that made it.';
comment on column watchbell.runs.schedule_name is 'Name of that schedule at the time.';
comment on column watchbell.runs.fire_at is 'Fire time it stands for.';
comment on column watchbell.runs.start_deadline is 'If not started by then it is cancelled.';
comment on column watchbell.runs.retry_of is 'The run that it repeats.';
comment on column watchbell.runs.cancel_requested_at is 'When someone first asked to cancel it.';
comment on column watchbell.runs.claimed_by is 'Number of the worker that runs it, or ended it.';
comment on column watchbell.runs.fence is 'Rises with each claim; a writer with an older one is refused.';
comment on column watchbell.runs.crashes is 'How often it was running when its worker was lost.';
comment on column watchbell.runs.created_at is 'When it was inserted.';
comment on column watchbell.runs.created_by is 'Login that inserted it.';

comment on table watchbell.runs_live is 'Runs that wait or run. For the engine: read and insert through the view runs.';
comment on column watchbell.runs_live.id is 'Number of the run.';
comment on column watchbell.runs_live.handler is 'Name of the code that does the work: sql or one of your own.';
comment on column watchbell.runs_live.payload is 'JSON object handed to the handler, at most 1 MiB.';
comment on column watchbell.runs_live.status is 'pending, running; then normal, failed or cancelled, for good.';
comment on column watchbell.runs_live.queue is 'Queue it waits in.';
comment on column watchbell.runs_live.priority is '0 runs first, 9 last.';
comment on column watchbell.runs_live.run_at is 'It is not started before this.';
comment on column watchbell.runs_live.started_at is 'When the latest attempt started.';
comment on column watchbell.runs_live.attempt is 'Attempts started so far.';
comment on column watchbell.runs_live.max_attempts is 'Attempts after which it is failed, 1-100.';
comment on column watchbell.runs_live.error is 'Why the latest attempt failed, shortened.';
comment on column watchbell.runs_live.retry is 'Wait between attempts; see schedules.retry.';
comment on column watchbell.runs_live.timeout is 'Time limit of one attempt; NULL is none.';
comment on column watchbell.runs_live.unique_key is 'While a run with this key is open, another is not inserted.';
comment on column watchbell.runs_live.concurrency_key is 'Runs with one key share a limit of how many run at once; see limits.';
comment on column watchbell.runs_live.target is 'Label selector of the workers that may run it, such as zone=a,disk=ssd.';
comment on column watchbell.runs_live.tags is 'For filters.';
comment on column watchbell.runs_live.trigger is 'What made it: enqueue, schedule, catch_up, run_now, backfill or retry.';
comment on column watchbell.runs_live.schedule_id is 'Schedule that made it.';
comment on column watchbell.runs_live.schedule_name is 'Name of that schedule at the time.';
comment on column watchbell.runs_live.fire_at is 'Fire time it stands for.';
comment on column watchbell.runs_live.start_deadline is 'If not started by then it is cancelled.';
comment on column watchbell.runs_live.retry_of is 'The run that it repeats.';
comment on column watchbell.runs_live.claimed_by is 'Number of the worker that runs it, or ended it.';
comment on column watchbell.runs_live.fence is 'Rises with each claim; a writer with an older one is refused.';
comment on column watchbell.runs_live.crashes is 'How often it was running when its worker was lost.';
comment on column watchbell.runs_live.created_at is 'When it was inserted.';
comment on column watchbell.runs_live.created_by is 'Login that inserted it.';

comment on table watchbell.runs_finished is 'Runs that ended. In days; dropped after the retention. For the engine: read through the view runs.';
comment on column watchbell.runs_finished.id is 'Number of the run.';
comment on column watchbell.runs_finished.handler is 'Name of the code that does the work: sql or one of your own.';
comment on column watchbell.runs_finished.payload is 'JSON object handed to the handler, at most 1 MiB.';
comment on column watchbell.runs_finished.status is 'pending, running; then normal, failed or cancelled, for good.';
comment on column watchbell.runs_finished.queue is 'Queue it waits in.';
comment on column watchbell.runs_finished.priority is '0 runs first, 9 last.';
comment on column watchbell.runs_finished.run_at is 'It is not started before this.';
comment on column watchbell.runs_finished.started_at is 'When the latest attempt started.';
comment on column watchbell.runs_finished.finished_at is 'When it ended.';
comment on column watchbell.runs_finished.attempt is 'Attempts started so far.';
comment on column watchbell.runs_finished.max_attempts is 'Attempts after which it is failed, 1-100.';
comment on column watchbell.runs_finished.error is 'Why the latest attempt failed, shortened.';
comment on column watchbell.runs_finished.retry is 'Wait between attempts; see schedules.retry.';
comment on column watchbell.runs_finished.timeout is 'Time limit of one attempt; NULL is none.';
comment on column watchbell.runs_finished.unique_key is 'While a run with this key is open, another is not inserted.';
comment on column watchbell.runs_finished.concurrency_key is 'Runs with one key share a limit of how many run at once; see limits.';
comment on column watchbell.runs_finished.target is 'Label selector of the workers that may run it, such as zone=a,disk=ssd.';
comment on column watchbell.runs_finished.tags is 'For filters.';
comment on column watchbell.runs_finished.trigger is 'What made it: enqueue, schedule, catch_up, run_now, backfill or retry.';
comment on column watchbell.runs_finished.schedule_id is 'Schedule that made it.';
comment on column watchbell.runs_finished.schedule_name is 'Name of that schedule at the time.';
comment on column watchbell.runs_finished.fire_at is 'Fire time it stands for.';
comment on column watchbell.runs_finished.start_deadline is 'If not started by then it is cancelled.';
comment on column watchbell.runs_finished.retry_of is 'The run that it repeats.';
comment on column watchbell.runs_finished.claimed_by is 'Number of the worker that runs it, or ended it.';
comment on column watchbell.runs_finished.fence is 'Rises with each claim; a writer with an older one is refused.';
comment on column watchbell.runs_finished.crashes is 'How often it was running when its worker was lost.';
comment on column watchbell.runs_finished.created_at is 'When it was inserted.';
comment on column watchbell.runs_finished.created_by is 'Login that inserted it.';

comment on table watchbell.run_errors is 'Why each attempt failed. In days; dropped after the retention.';
comment on column watchbell.run_errors.run_id is 'Which run.';
comment on column watchbell.run_errors.attempt is 'Which attempt.';
comment on column watchbell.run_errors.fence is 'Fence of that attempt.';
comment on column watchbell.run_errors.worker_id is 'Worker that made it.';
comment on column watchbell.run_errors.kind is 'What kind of failure, such as failed, panicked, timed out or lost.';
comment on column watchbell.run_errors.message is 'What went wrong, in words.';
comment on column watchbell.run_errors.at is 'When.';

comment on table watchbell.run_output is 'What a run printed or logged, as bytes, in order. In days; dropped after the retention.';
comment on column watchbell.run_output.run_id is 'Which run.';
comment on column watchbell.run_output.attempt is 'Which attempt.';
comment on column watchbell.run_output.seq is 'Order within the attempt.';
comment on column watchbell.run_output.stream is 'log, stdout or stderr.';
comment on column watchbell.run_output.bytes is 'The output; any bytes, not only text.';
comment on column watchbell.run_output.at is 'When it was stored.';

comment on table watchbell.workers is 'One row for each start of a worker process. Written by workers only; ask through worker_requests.';
comment on column watchbell.workers.id is 'Number of this start; the claimed_by of runs.';
comment on column watchbell.workers.name is 'Name of the worker, by default of its host.';
comment on column watchbell.workers.host is 'Machine it runs on.';
comment on column watchbell.workers.ip is 'Its address as the worker knows it.';
comment on column watchbell.workers.pid is 'Its process id on that machine.';
comment on column watchbell.workers.version is 'Version of its program.';
comment on column watchbell.workers.labels is 'Its labels as key=value, matched by target.';
comment on column watchbell.workers.handlers is 'Handlers it has.';
comment on column watchbell.workers.queues is 'Queues it serves; NULL is all.';
comment on column watchbell.workers.slots is 'Runs it has at once at most.';
comment on column watchbell.workers.state is 'starting, running, draining, stopped or dead (declared so by another worker).';
comment on column watchbell.workers.presence is 'Whether it holds its presence lock, by which a killed process is noticed at once.';
comment on column watchbell.workers.started_at is 'When it registered.';
comment on column watchbell.workers.heartbeat_at is 'Its latest sign of life.';
comment on column watchbell.workers.lease_until is 'Its runs are its own until then, and longer only if it renews this.';
comment on column watchbell.workers.ended_at is 'When it stopped or was declared dead.';

comment on table watchbell.worker_requests is 'What people ask of workers: to drain, or to stop a run. The worker reads and marks it.';
comment on column watchbell.worker_requests.id is 'Number of the request.';
comment on column watchbell.worker_requests.request is 'drain or cancel.';
comment on column watchbell.worker_requests.worker_id is 'For drain: which worker.';
comment on column watchbell.worker_requests.run_id is 'For cancel: which run.';
comment on column watchbell.worker_requests.reason is 'Why, for people.';
comment on column watchbell.worker_requests.requested_by is 'Login that asked.';
comment on column watchbell.worker_requests.requested_at is 'When it was asked.';
comment on column watchbell.worker_requests.handled_at is 'When it had been dealt with; NULL is open.';

comment on table watchbell.handlers is 'Names of handlers that some worker has ever registered.';
comment on column watchbell.handlers.name is 'The handler''s name.';
comment on column watchbell.handlers.first_seen_at is 'When a worker first registered it.';
comment on column watchbell.handlers.last_seen_at is 'When a worker last registered it.';

comment on table watchbell.queues is 'Queues; a run for an unknown one adds it.';
comment on column watchbell.queues.name is '1 to 128 letters, digits and . _ : -';
comment on column watchbell.queues.paused_at is 'Since when no run of it is started.';
comment on column watchbell.queues.paused_by is 'Who paused it.';
comment on column watchbell.queues.pause_note is 'Why it is paused.';
comment on column watchbell.queues.sleepers_until is 'Until when some worker may be asleep and wants to be woken by a NOTIFY. Written by workers.';
comment on column watchbell.queues.created_at is 'When it was added.';

comment on table watchbell.limits is 'How many runs with one concurrency_key may run at once.';
comment on column watchbell.limits.key is 'The concurrency_key.';
comment on column watchbell.limits.max_running is 'How many may run at once; 1 unless changed here.';
comment on column watchbell.limits.running is 'How many run now. Written by the system.';

comment on table watchbell.migrations is 'Changes made to this schema. Written by watchbell migrate up, or by the script of watchbell migrate sql.';
comment on column watchbell.migrations.version is 'Number of the change.';
comment on column watchbell.migrations.name is 'Its file.';
comment on column watchbell.migrations.checksum is 'FNV-1a of its text: an applied change is never edited.';
comment on column watchbell.migrations.min_build is 'The least schema version a program must know to work with it.';
comment on column watchbell.migrations.applied_at is 'When it was made.';
comment on column watchbell.migrations.applied_by is 'Login that made it.';

comment on view watchbell.upcoming is 'Schedules that will fire, soonest first.';
comment on column watchbell.upcoming.name is 'The schedule.';
comment on column watchbell.upcoming.kind is 'cron, fixed_delay, fixed_rate or once.';
comment on column watchbell.upcoming.next_fire_at is 'Next fire time.';
comment on column watchbell.upcoming.starts_in is 'How long until then.';
comment on column watchbell.upcoming.timezone is 'Its zone.';
comment on column watchbell.upcoming.handler is 'What will run.';
comment on column watchbell.upcoming.queue is 'Where it will wait.';

comment on function watchbell.clock() is 'The time of this transaction, or what watchbell.now is set to in a test.';
comment on function watchbell.instant() is 'The time at this instant, or what watchbell.now is set to in a test.';
comment on function watchbell.shown(text) is 'A value shortened for an error message.';
comment on function watchbell.duration(text) is 'Reads 90s, 1h30m, 2 days or PT1H; NULL when it is none.';
comment on function watchbell.selector(text) is 'Brings a label selector into its stored form; NULL when it is none.';
comment on function watchbell.cron_problem(text) is 'What is wrong with a cron expression, and a hint; NULL when it is well formed.';
comment on function watchbell.is_timezone(text) is 'Whether PostgreSQL and the workers both know this zone.';
comment on function watchbell.cancel(bigint, text) is 'Cancels a run: cancelled (it was waiting), requested (its worker has been asked) or finished (it was over).';
comment on function watchbell.finish_run(bigint, bigint, integer) is 'Ends a running run as normal inside this transaction; false when it is no longer the caller''s.';
comment on function watchbell.make_day(text, date) is 'Makes one day of a table in days; true when it was missing.';
comment on function watchbell.make_days(integer) is 'Makes the days from yesterday to so many ahead; returns those that were missing.';
comment on function watchbell.drop_days(interval, text) is 'Drops days older than the retention; problem says why one stays until the next call.';

insert into watchbell.migrations (version, name, checksum, min_build) values (11, '0011_comments', 'dd4c66210768f564', 1);
commit;

-- Backfill: runs for fire times of the past. SQL cannot walk a calendar, so the request is a row and whoever
-- can, a worker or the client, names the fire times; what becomes of each is decided here, under the schedule's
-- lock, so that none acts twice.

create table watchbell.backfills (
    id            bigint generated always as identity primary key,
    schedule_id   bigint not null,
    schedule_name text collate "C" not null,
    from_at       timestamptz not null,
    to_at         timestamptz not null,
    dry_run       boolean not null,
    status        text collate "C" not null default 'pending' check (status in ('pending', 'normal', 'failed')),
    error         text,
    fire_times    timestamptz[],
    existing      integer,
    runs          integer,
    requested_by  text not null default session_user,
    requested_at  timestamptz not null default now(),
    finished_at   timestamptz
);
create index backfills_schedule on watchbell.backfills (schedule_id, id);

comment on table watchbell.backfills is 'Each backfill that was asked for, and what it made.';
comment on column watchbell.backfills.id is 'Number of the backfill, which watchbell.backfill() answers.';
comment on column watchbell.backfills.schedule_id is 'Number of the schedule.';
comment on column watchbell.backfills.schedule_name is 'Name of the schedule.';
comment on column watchbell.backfills.from_at is 'The earliest fire time, itself included.';
comment on column watchbell.backfills.to_at is 'The latest fire time, itself included.';
comment on column watchbell.backfills.dry_run is 'Makes no runs: only says which it would make.';
comment on column watchbell.backfills.status is 'pending (a worker takes it up within a second), normal or failed.';
comment on column watchbell.backfills.error is 'Why it failed.';
comment on column watchbell.backfills.fire_times is 'The fire times that got a run, or would get one.';
comment on column watchbell.backfills.existing is 'How many fire times of the range had a run already.';
comment on column watchbell.backfills.runs is 'How many runs were made; 0 of a dry run.';
comment on column watchbell.backfills.requested_by is 'Login that asked for it.';
comment on column watchbell.backfills.requested_at is 'When it was asked for.';
comment on column watchbell.backfills.finished_at is 'When it was done.';

-- Workers look at open requests once a second; an older one passes this kind over.
alter table watchbell.worker_requests
    add column backfill_id bigint,
    drop constraint worker_requests_request_check,
    add constraint worker_requests_request_check check (request in ('drain', 'cancel', 'backfill')),
    add constraint worker_requests_backfill_check check ((request = 'backfill') = (backfill_id is not null));
comment on column watchbell.worker_requests.request is 'drain, cancel or backfill.';
comment on column watchbell.worker_requests.backfill_id is 'The backfill that is to be worked out.';

create function watchbell.backfill(name text, "from" timestamptz, "to" timestamptz, dry_run boolean default false)
returns bigint language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    wanted constant bigint := watchbell.schedule_id(name);
    spec constant text := (select s.kind from watchbell.schedules s where s.id = wanted);
    id bigint;
    problem text;
begin
    problem := case
        when num_nulls("from", "to") > 0 then 'from or to is missing'
        when spec not in ('cron', 'fixed_rate') then format('kind %s has no fire times of the past', spec)
        when "from" > "to" then format('from %s is after to %s', "from", "to")
        when "to" > watchbell.clock() then format('to %s is in the future', "to")
        else watchbell.time_problem('from', "from") end;
    if problem is not null then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'backfills',
            message = format('schedule "%s" cannot be backfilled: %s', name, problem),
            hint = case when problem like 'kind%' then format('For one run: SELECT watchbell.run_now(%L);', name)
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
comment on function watchbell.backfill is 'Makes runs for the fire times of a range of the past that have none, at most 1,000, at the lowest priority and one after another. Answers the number of the row in backfills that tells the result.';

-- Decides a backfill whose fire times are known, or that cannot be done (`problem`). NULL: someone holds the
-- schedule's row; ask again. False: the definition is not the `version` that the fire times were computed from.
-- A fire time with a run keeps it. One that was skipped keeps its row in fires, which then names the run; one
-- without a row gets it if it is at most 30 days old: for older ones there are no days, only runs.
create function watchbell.expand_backfill(backfill_id bigint, version bigint, slots timestamptz[], problem text)
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
            retry, concurrency_key, target, tags, schedule_id, schedule_name, fire_at, created_by)
        select p.id, present, 9, s.max_attempts, 'backfill', s.queue, s.handler, s.payload, s.timeout, s.retry, run_key,
               s.target, nullif(s.tags, '{}'), s.id, s.name, p.at, b.requested_by
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

revoke execute on function watchbell.backfill, watchbell.expand_backfill from public;

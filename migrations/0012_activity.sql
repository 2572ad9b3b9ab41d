-- Who changed what: one row for each change of a schedule, queue, limit or worker, whether by a function, a
-- program or a raw statement. The triggers name the columns that people write, so the engine's own writes run
-- none of this.

create sequence watchbell.activity_id_seq;

create table watchbell.activity (
    id               bigint not null default nextval('watchbell.activity_id_seq'),
    at               timestamptz not null,
    actor            text not null,
    login            text not null,
    application_name text,
    what             text collate "C" not null,
    kind             text collate "C" not null,
    name             text collate "C",
    object_id        bigint,
    before           jsonb,
    after            jsonb
) partition by range (at);
create index activity_id on watchbell.activity (id);
create index activity_object on watchbell.activity (kind, name, id);

comment on sequence watchbell.activity_id_seq is 'Numbers of activity: identity columns of partitioned tables are newer than PostgreSQL 15.';
comment on table watchbell.activity is 'Who changed what, raw SQL included. Kept as long as finished runs.';
comment on column watchbell.activity.id is 'Rises with each change; a later commit may have a lower number.';
comment on column watchbell.activity.at is 'When the change was made: the start of its transaction.';
comment on column watchbell.activity.actor is 'Who is said to have made it: the setting watchbell.actor if the session has one, else the login.';
comment on column watchbell.activity.login is 'The login of the session, which the database has verified.';
comment on column watchbell.activity.application_name is 'What the session calls itself.';
comment on column watchbell.activity.what is 'insert, update, delete, or the function: pause, resume, skip_next, run_now, backfill, cancel, cancel_schedule, retry, retry_failed, drain, undrain.';
comment on column watchbell.activity.kind is 'schedule, queue, limit, worker or run.';
comment on column watchbell.activity.name is 'Name of the object, where it has one.';
comment on column watchbell.activity.object_id is 'Number of the object, where it has one.';
comment on column watchbell.activity.before is 'What changed, as it was: only the columns that differ. A value above 8 KiB is given by its size.';
comment on column watchbell.activity.after is 'What changed, as it is since.';

-- The same as in 0008, with one table more.
create or replace function watchbell.day_parents() returns text[]
language sql immutable set search_path = watchbell, pg_temp
return '{run_output,run_errors,activity,fires,runs_finished}'::text[];

select count(*) from watchbell.make_days();

-- Writes one row. A change is never refused because it could not be noted: where no worker has made today's
-- partition, it is made here, and if that would wait for a lock, the change goes on with a warning.
create function watchbell.note_change(
    what text, kind text, name text, object_id bigint, before jsonb default null, after jsonb default null
) returns void language plpgsql set search_path = watchbell, pg_temp as $$
declare
    at constant timestamptz := watchbell.clock();
    actor constant text := left(coalesce(nullif(current_setting('watchbell.actor', true), ''), session_user), 256);
begin
    -- Asked, not found out by a failed INSERT: a subtransaction for each of a thousand rows would slow down everyone.
    if to_regclass('watchbell.activity_' || to_char(at at time zone 'UTC', 'YYYYMMDD')) is null then
        begin
            perform watchbell.make_day('activity', (at at time zone 'UTC')::date);
        exception when lock_not_available then
            raise warning 'this change is not in watchbell.activity: its day is missing and could not be made at once';
            return;
        end;
    end if;
    insert into watchbell.activity (at, actor, login, application_name, what, kind, name, object_id, before, after)
    values (at, actor, session_user, current_setting('application_name'), what, kind, name, object_id, before, after);
end $$;

-- The columns of a row that people write, each of bounded size.
create function watchbell.written_by_people(stored jsonb) returns jsonb
language sql immutable strict set search_path = watchbell, pg_temp
return (
    select jsonb_object_agg(key, case when octet_length(value::text) <= 8192 then value
                                      else to_jsonb(format('(%s bytes)', octet_length(value::text))) end)
    from jsonb_each(stored)
    where key <> all ('{id,kind,status,error,wake_at,next_fire_at,anchor_at,effective_from,last_fire_at,last_started_at,'
                      'last_success_at,last_finished_at,last_duration,last_status,consecutive_failures,fires_count,'
                      'version,declared_version,created_by,created_at,updated_at,sleepers_until,running}'::text[]));

-- The entries of one object that the other has not, or has otherwise.
create function watchbell.differing(these jsonb, those jsonb) returns jsonb
language sql immutable set search_path = watchbell, pg_temp
return (select jsonb_object_agg(key, value) from jsonb_each(these) where value is distinct from those -> key);

-- Arguments: the kind of object, and the column with its name.
create function watchbell.record_change() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    present constant jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
    before jsonb := case when tg_op <> 'INSERT' then watchbell.written_by_people(to_jsonb(old)) end;
    after jsonb := case when tg_op <> 'DELETE' then watchbell.written_by_people(to_jsonb(new)) end;
    what text := lower(tg_op);
    was constant jsonb := before;
begin
    if tg_op = 'INSERT' and tg_argv[0] = 'queue' then
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

create trigger schedules_activity after insert or delete or update of
    name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload, queue, priority, max_attempts, retry,
    timeout, overlap, max_running, misfire, misfire_grace, catch_up_window, catch_up_limit, start_deadline, jitter,
    pause_after_failures, concurrency_key, first_fire, starts_at, ends_at, max_fires, target, description, owner,
    runbook_url, tags, managed_by, paused_at, paused_until, pause_note
on watchbell.schedules for each row execute function watchbell.record_change('schedule', 'name');

-- Queues and limits appear with the first run that names them: that is no change of anyone's.
create trigger queues_activity after update of paused_at, pause_note on watchbell.queues
for each row execute function watchbell.record_change('queue', 'name');
create trigger queues_activity_insert after insert on watchbell.queues
for each row when (new.paused_at is not null) execute function watchbell.record_change('queue', 'name');
create trigger queues_activity_delete after delete on watchbell.queues
for each row execute function watchbell.record_change('queue', 'name');

-- The limit of a schedule follows its max_running, which is noted there.
create trigger limits_activity after update of max_running on watchbell.limits
for each row when (old.max_running <> new.max_running and new.key not like 'schedule:%')
execute function watchbell.record_change('limit', 'key');
create trigger limits_activity_insert after insert on watchbell.limits
for each row when (new.max_running <> 1 and new.key not like 'schedule:%')
execute function watchbell.record_change('limit', 'key');
create trigger limits_activity_delete after delete on watchbell.limits
for each row execute function watchbell.record_change('limit', 'key');

-- What people ask of workers, by a function or a raw INSERT. The one request that the engine makes itself, for
-- overlap = cancel_running, is known by its reason.
create function watchbell.record_request() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if new.request = 'drain' then
        perform watchbell.note_change('drain', 'worker', (select w.name from watchbell.workers w where w.id = new.worker_id),
            new.worker_id, null, jsonb_strip_nulls(jsonb_build_object('reason', new.reason)));
    elsif new.request = 'cancel' then
        perform watchbell.note_change('cancel', 'run', null, new.run_id, null,
            jsonb_strip_nulls(jsonb_build_object('reason', new.reason)));
    end if;
    return null;
end $$;

create trigger worker_requests_activity after insert on watchbell.worker_requests
for each row when (new.requested_by <> 'watchbell' or new.reason is distinct from 'a newer fire time of its schedule is due')
execute function watchbell.record_request();

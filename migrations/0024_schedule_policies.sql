-- Keep-alive, one run on every worker, streaks of skips and doubts about time zones: the columns of schedules and
-- fires, the checks of both, and what an end does to a schedule that is kept alive or runs everywhere.

alter table watchbell.schedules
    add column keep_alive boolean not null default false,
    add column copies integer not null default 1,
    add column crash_loop_since timestamptz,
    add column tz_mismatch text,
    add column streak_at timestamptz,
    add constraint schedules_keep_alive check (not keep_alive or fixed_delay is not null),
    add constraint schedules_copies check (copies between 1 and 100 and (keep_alive or copies = 1));
comment on column watchbell.schedules.keep_alive is 'With fixed_delay: its runs have no timeout and are restarted on any end, after a pause that grows from fixed_delay to 5 minutes.';
comment on column watchbell.schedules.copies is 'With keep_alive: how many runs are open at once, each restarted by itself.';
comment on column watchbell.schedules.crash_loop_since is 'With keep_alive: since when a copy ends within a minute of its start, 5 times in a row or more; NULL when none does. Set by the system.';
comment on column watchbell.schedules.tz_mismatch is 'Kind cron: how the worker that planned it and the database differ about the clock at its next fire time; NULL when they agree. Set by the system.';
comment on column watchbell.schedules.streak_at is 'The row in fires that the streak of skips began with, while it lasts. Set by the system.';
comment on column watchbell.schedules.target is 'Labels of the workers that may run it, as label=value,...; all or all:label=value is one run on each of them that lives.';

-- One row for each copy that is to run. Written under the lock of its schedule.
create table watchbell.copies (
    schedule_id bigint not null,
    copy        integer not null,
    run_id      bigint,
    restart_at  timestamptz,
    restarts    integer not null default 0,
    primary key (schedule_id, copy)
);
comment on table watchbell.copies is 'The copies of each schedule that is kept alive.';
comment on column watchbell.copies.schedule_id is 'Which schedule.';
comment on column watchbell.copies.copy is 'Which of its copies, from 1 on.';
comment on column watchbell.copies.run_id is 'Its open run; NULL while it waits for its restart.';
comment on column watchbell.copies.restart_at is 'When it starts again; NULL while a run is open.';
comment on column watchbell.copies.restarts is 'How often in a row its run has ended within a minute of its start.';

alter table watchbell.fires add column runs integer, add column workers integer;
comment on column watchbell.fires.runs is 'With target all: how many runs it made, of which run_id is the first.';
comment on column watchbell.fires.workers is 'With target all: how many workers matched; overlap left out those without a run.';
comment on column watchbell.fires.disposition is 'run, caught_up, queued, skipped_overlap, skipped_misfire, skipped_no_worker, skipped_by_request, coalesced, expired or backfilled.';

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
    'backfilled', 'skipped_no_worker'));

-- 1. Which workers.

-- 'all', or 'all:' and label pairs without blanks; NULL when it is neither.
create function watchbell.fleet(target text) returns text
language sql immutable strict set search_path = watchbell, pg_temp
return case when target ~ '^\s*all\s*$' then 'all'
            when target ~ '^\s*all\s*:' then 'all:' || watchbell.selector(regexp_replace(target, '^\s*all\s*:', '')) end;
comment on function watchbell.fleet is 'The target of a schedule that runs on every worker, in its stored form; NULL when it is none.';

-- The live workers that a schedule with target all starts a run on.
create function watchbell.members(s watchbell.schedules, at timestamptz) returns setof integer
language sql stable set search_path = watchbell, pg_temp
begin atomic
    select w.id from watchbell.workers w
    where w.state = 'running' and w.lease_until > at and s.handler = any (w.handlers)
      and (w.queues is null or s.queue = any (w.queues))
      -- what stands behind 'all:'
      and string_to_array(substr(s.target, 5), ',') <@ (w.labels || ('worker=' || w.id));
end;
comment on function watchbell.members is 'The live workers that a schedule with target all starts a run on.';

-- Whether a target names a worker, by its number, that has ended: such a run can never start, as no number is given twice.
create function watchbell.is_stranded(target text) returns boolean
language sql stable security definer set search_path = watchbell, pg_temp
return coalesce(target ~ '(^|,)worker=[0-9]+(,|$)', false) and not exists (
    select from watchbell.workers w
    where w.state in ('starting', 'running', 'draining') and 'worker=' || w.id = any (string_to_array(target, ',')));
comment on function watchbell.is_stranded is 'Whether a target names a worker, by its number, that has ended.';

-- Ends waiting runs that are aimed at a worker which has ended. `everywhere` reads
-- all open runs; otherwise only those of schedules with target all. What others hold is left for the next time.
create function watchbell.end_stranded(everywhere boolean, at timestamptz) returns integer
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    lost watchbell.runs_live;
    run watchbell.runs_live;
    n integer := 0;
begin
    for lost in
        select r.* from watchbell.runs_live r
        where r.status = 'pending' and r.target ~ '(^|,)worker=[0-9]+(,|$)'
          and (everywhere or r.schedule_id in (select s.id from watchbell.schedules s where s.target ~ '^all(:|$)'))
          and watchbell.is_stranded(r.target)
        order by r.schedule_id, r.id limit 1000
    loop
        perform from watchbell.schedules s where s.id = lost.schedule_id for no key update skip locked;
        continue when not found and exists (select from watchbell.schedules s where s.id = lost.schedule_id);
        delete from watchbell.runs_live r
        where r.id = (select x.id from watchbell.runs_live x where x.id = lost.id and x.status = 'pending'
                      for no key update skip locked)
        returning r.* into run;
        continue when not found;
        perform watchbell.move_to_finished(run, 'cancelled',
            format('expired: the worker that it was aimed at (%s) has ended', run.target), at);
        perform watchbell.schedule_ended(run, 'cancelled', at);
        n := n + 1;
    end loop;
    return n;
end $$;
comment on function watchbell.end_stranded is 'Cancels waiting runs that are aimed at a worker which has ended; answers how many.';
revoke execute on function watchbell.end_stranded from public;

-- 2. Checks of a schedule's row, as in 0007.

create or replace function watchbell.schedule_refusal(s watchbell.schedules) returns watchbell.refusal
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
        s.timeout, s.concurrency_key, case when s.target !~ '^\s*all\s*(:|$)' then s.target end, s.tags);
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
        ('target', case when s.target ~ '^\s*all\s*(:|$)' and watchbell.fleet(s.target) is null
            then format('target "%s" is not all or all:label=value', watchbell.shown(s.target)) end,
            'all is each live worker with the handler, all:zone=a those of them with the label.'),
        ('target', case when s.keep_alive and watchbell.fleet(s.target) is not null
            then format('keep_alive does not go with target "%s"', watchbell.shown(s.target)) end,
            'Keep one schedule alive on each host: target host=a, host=b and so on.'),
        ('keep_alive', case when s.keep_alive and s.fixed_delay is null
            then 'keep_alive goes with fixed_delay only' end,
            'fixed_delay is the first pause before a restart: fixed_delay => ''1 s'', keep_alive => true.'),
        ('copies', watchbell.range_problem('copies', s.copies, 1, 100), 'The default is 1.'),
        ('copies', case when s.copies > 1 and not s.keep_alive
            then format('copies %s goes with keep_alive only', s.copies) end,
            'For several runs of one fire time use target all, or several schedules.'),
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

create or replace function watchbell.schedules_check() returns trigger
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
    new.keep_alive := coalesce(new.keep_alive, false);
    new.copies := coalesce(new.copies, 1);
    -- What is kept alive is restarted on any end by its schedule, and may run as long as it likes.
    if new.keep_alive then
        new.timeout := null;
        new.max_attempts := 1;
    end if;
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
    new.target := coalesce(watchbell.fleet(new.target), watchbell.selector(new.target));

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

create or replace function watchbell.schedules_plan() returns trigger
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
        new.crash_loop_since := null;
        new.tz_mismatch := null;
        new.streak_at := null;
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
           new.starts_at, new.ends_at, new.first_fire, new.max_fires, new.keep_alive, new.copies)
          is distinct from
          (old.cron, old.fixed_delay, old.fixed_rate, old.run_at, old.timezone, old.dst,
           old.starts_at, old.ends_at, old.first_fire, old.max_fires, old.keep_alive, old.copies) then
        new.status := 'pending';
        new.error := null;
        new.wake_at := '-infinity';
        new.effective_from := watchbell.clock();
    end if;
    return new;
end $$;

drop trigger schedules_1_check on watchbell.schedules;
create trigger schedules_1_check before insert or update of
    name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload, queue, priority, max_attempts, retry,
    timeout, overlap, max_running, misfire, misfire_grace, catch_up_window, catch_up_limit, start_deadline, jitter,
    pause_after_failures, concurrency_key, first_fire, starts_at, ends_at, max_fires, target, description, owner,
    runbook_url, tags, managed_by, keep_alive, copies
on watchbell.schedules for each row execute function watchbell.schedules_check();
drop trigger schedules_2_plan on watchbell.schedules;
create trigger schedules_2_plan before insert or update of
    name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload, queue, priority, max_attempts, retry,
    timeout, overlap, max_running, misfire, misfire_grace, catch_up_window, catch_up_limit, start_deadline, jitter,
    pause_after_failures, concurrency_key, first_fire, starts_at, ends_at, max_fires, target, description, owner,
    runbook_url, tags, managed_by, keep_alive, copies
on watchbell.schedules for each row execute function watchbell.schedules_plan();
create trigger schedules_wake_copies after update of keep_alive, copies
on watchbell.schedules for each statement execute function watchbell.wake();
drop trigger schedules_activity on watchbell.schedules;
create trigger schedules_activity after insert or delete or update of
    name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload, queue, priority, max_attempts, retry,
    timeout, overlap, max_running, misfire, misfire_grace, catch_up_window, catch_up_limit, start_deadline, jitter,
    pause_after_failures, concurrency_key, first_fire, starts_at, ends_at, max_fires, target, description, owner,
    runbook_url, tags, managed_by, keep_alive, copies,
    paused_at, paused_until, pause_note, callback_url, notify_channel
on watchbell.schedules for each row execute function watchbell.record_change('schedule', 'name');

create or replace function watchbell.written_by_people(stored jsonb) returns jsonb
language sql immutable strict set search_path = watchbell, pg_temp
return (
    select jsonb_object_agg(key, case when octet_length(value::text) <= 8192 then value
                                      else to_jsonb(format('(%s bytes)', octet_length(value::text))) end)
    from jsonb_each(stored)
    where key <> all ('{id,kind,status,error,wake_at,next_fire_at,anchor_at,effective_from,last_fire_at,crash_loop_since,tz_mismatch,streak_at,last_started_at,'
                      'last_success_at,last_finished_at,last_duration,last_status,consecutive_failures,fires_count,'
                      'version,declared_version,created_by,created_at,updated_at,sleepers_until,running,'
                      'limited,limit_epoch,full_at,holder,epoch}'::text[]));

-- A schedule that is deleted, or no longer kept alive, forgets its copies. Deleted, it asks its runs to stop: without
-- a timeout and without a schedule nothing else would ever end them.
create function watchbell.schedules_forget_copies() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if tg_op = 'DELETE' then
        insert into watchbell.worker_requests (request, run_id, reason)
        select 'cancel', r.id, format('schedule "%s" was deleted', old.name)
        from watchbell.runs_live r where r.schedule_id = old.id and r.trigger = 'keep_alive'
          and not exists (select from watchbell.worker_requests q where q.run_id = r.id);
        if found then
            perform pg_notify('watchbell', 'requests');
        end if;
    end if;
    delete from watchbell.copies c where c.schedule_id = old.id;
    return null;
end $$;
create trigger schedules_forget_copies after update of keep_alive on watchbell.schedules
for each row when (old.keep_alive and not new.keep_alive) execute function watchbell.schedules_forget_copies();
create trigger schedules_forget_copies_deleted after delete on watchbell.schedules
for each row when (old.keep_alive) execute function watchbell.schedules_forget_copies();

-- 3. What an end does to its schedule, as in 0010. One that is kept alive, or runs on every worker, is planned afresh:
-- which copy ended, or whether another worker still runs it, is for the fire stage to see.
create or replace function watchbell.schedule_ended(run watchbell.runs_live, ended_as text, at timestamptz) returns void
language sql set search_path = watchbell, pg_temp
begin atomic
    with planned as (
        select case when n.at >= s.ends_at or s.fires_count >= s.max_fires then 'infinity'
                    when s.keep_alive or s.target ~ '^all(:|$)' then '-infinity' else n.at end as wake_at
        from watchbell.schedules s,
             lateral (select greatest(at + make_interval(secs => extract(epoch from s.fixed_delay)::double precision),
                                  s.last_fire_at + interval '1 microsecond') as at) n
        where s.id = run.schedule_id and run.trigger in ('schedule', 'keep_alive')
          and s.kind = 'fixed_delay' and s.status = 'normal' and (s.wake_at = 'infinity' or s.keep_alive)
    )
    update watchbell.schedules s
    set last_status = ended_as,
        last_finished_at = at,
        last_started_at = greatest(s.last_started_at, run.started_at),
        last_duration = coalesce(at - run.started_at, s.last_duration),
        last_success_at = case when ended_as = 'normal' then at else s.last_success_at end,
        consecutive_failures = case when ended_as = 'normal' then 0 else s.consecutive_failures end,
        wake_at = coalesce((select p.wake_at from planned p), s.wake_at),
        status = case (select p.wake_at from planned p) when 'infinity' then 'done' when '-infinity' then 'pending'
                 else s.status end
    where s.id = run.schedule_id;
end;

-- How the zone data of a worker and of the database differ about one instant; NULL when they agree.
create function watchbell.zone_problem(at timestamptz, zone text, wall timestamp) returns text
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    here timestamp;
begin
    here := at at time zone zone;
    return case when here is distinct from wall
        then format('%s UTC is %s in %s for the worker that planned it and %s for the database: their time zone data differ',
                    at at time zone 'UTC', wall, zone, here) end;
exception when invalid_parameter_value then
    return format('the database does not know the time zone %s any more', zone);
end $$;
comment on function watchbell.zone_problem is 'How a worker''s clock in a zone, at an instant, differs from the database''s; NULL when it does not.';

create or replace view watchbell.schedule_history as
select s.name as schedule_name, f.schedule_id, f.fire_at, f.disposition, f.until, f.missed, f.decided_at, f.run_id,
       r.status, r.trigger, r.attempt, r.started_at, r.finished_at, r.finished_at - r.started_at as duration,
       r.started_at - f.fire_at as started_late, r.error, f.runs, f.workers
from watchbell.fires f
join watchbell.schedules s on s.id = f.schedule_id
left join watchbell.runs r on r.id = f.run_id;
comment on column watchbell.schedule_history.disposition is 'What was decided: run, caught_up, queued, skipped_overlap, skipped_misfire, skipped_no_worker, skipped_by_request, coalesced, expired or backfilled.';
comment on column watchbell.schedule_history.trigger is 'What made that run: schedule, catch_up, keep_alive or backfill.';
comment on column watchbell.schedule_history.runs is 'With target all: how many runs it made, of which this is the first.';
comment on column watchbell.schedule_history.workers is 'With target all: how many workers matched; overlap left out those without a run.';
comment on column watchbell.runs.trigger is 'What made it: enqueue, schedule, catch_up, keep_alive, run_now, backfill, retry or callback.';
comment on column watchbell.runs_live.trigger is 'What made it: enqueue, schedule, catch_up, keep_alive, run_now, backfill, retry or callback.';
comment on column watchbell.runs_finished.trigger is 'What made it: enqueue, schedule, catch_up, keep_alive, run_now, backfill, retry or callback.';
comment on column watchbell.running.trigger is 'What made it: enqueue, schedule, catch_up, keep_alive, run_now, backfill, retry or callback.';
comment on column watchbell.runs.target is 'Label selector of the workers that may run it, such as zone=a,disk=ssd; worker=12 is one worker by its number.';

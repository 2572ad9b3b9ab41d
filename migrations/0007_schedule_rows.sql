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

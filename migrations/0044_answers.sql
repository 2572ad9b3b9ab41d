-- What a newcomer stumbled over: a pause without an end that was told to end in the year 9999, a refusal buried under
-- the forty lines of a statement, and a schedule of the handler sql without a statement, which only its runs refused.

-- As in 0041, but for a pause that has no end (least() passes over NULL), and with what a step says otherwise than its
-- watch. A payload is not for everybody.
create or replace view watchbell.watch_definitions as
select w.id, w.name, w.table_name, w.key_columns, w.status_column, w.since_column,
       (select jsonb_agg(jsonb_build_object(
                   'from', s.from_state, 'via', s.via_state, 'to', s.to_state, 'error', s.error_state,
                   'handler', s.handler, 'mode', coalesce(p.p->>'mode', nullif(s.mode, 'auto')),
                   'reason', p.p->>'reason',
                   'own', coalesce((select t - '{from,via,to,error,handler,mode,payload}'::text[]
                                    from jsonb_array_elements(w.transitions) t where t->>'from' = s.from_state limit 1),
                                   '{}')) order by s.ordinality)
        from watchbell.watch_steps(w) with ordinality s
        left join lateral (select p from jsonb_array_elements(coalesce(w.plan->'steps', '[]')) p
                           where p->>'from' = s.from_state limit 1) p on true) as steps,
       w.mode, w.batch_size, w.max_running, w.rate_limit, w.rate_period, w.order_by, w.filter, w.poll_interval, w.timeout,
       w.retry, w.max_attempts, w.description, w.owner, w.runbook_url, w.tags, w.managed_by, w.status, w.error, w.plan,
       w.planned_at, w.paused_at, w.paused_by,
       case when w.paused_until is not null then least(w.paused_until, '9999-12-31 00:00Z') end as paused_until, w.pause_note,
       w.version, w.created_at, w.updated_at,
       exists (select from pg_catalog.pg_trigger t
               where t.tgrelid = watchbell.watched_table(w.table_name) and not t.tgisinternal
                 and t.tgname = watchbell.wake_trigger(w.status_column)) as wakes
from watchbell.watches w;

comment on column watchbell.watch_definitions.steps is
    'Its steps: a list of from, via, to, error, handler, mode, reason and own, which is what a step says otherwise than the watch.';

-- As in 0025, and what is refused is said again from here, without the lines of context that the statement is in psql.
create or replace function watchbell.schedule(
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
declare
    said text;
    advice text;
    about text;
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
exception when check_violation or invalid_parameter_value then
    get stacked diagnostics said = message_text, advice = pg_exception_hint, about = column_name;
    raise exception using errcode = sqlstate, schema = 'watchbell', table = 'schedules', column = about,
        message = said, hint = advice;
end $$;

-- A warning, no refusal: a program may have a handler of its own by this name.
create function watchbell.schedules_statement() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
begin
    raise warning using
        message = format('schedule "%s": the handler sql needs a "statement" in its payload (got none), so its runs will fail',
                         watchbell.shown(new.name)),
        hint = 'Example: {"statement": "delete from visits where at < now() - $1::interval", "args": ["90 days"]}.';
    return null;
end $$;
comment on function watchbell.schedules_statement is 'Trigger: warns of a schedule of the handler sql that has no statement.';

create trigger schedules_statement_insert after insert on watchbell.schedules for each row
when (new.handler = 'sql' and jsonb_typeof(new.payload -> 'statement') is distinct from 'string')
execute function watchbell.schedules_statement();
create trigger schedules_statement_update after update of handler, payload on watchbell.schedules for each row
when (new.handler = 'sql' and jsonb_typeof(new.payload -> 'statement') is distinct from 'string'
      and (new.handler, new.payload) is distinct from (old.handler, old.payload))
execute function watchbell.schedules_statement();

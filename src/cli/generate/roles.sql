-- Roles of watchbell in one database. They cannot log in: grant them to those who can,
--     CREATE ROLE shop LOGIN PASSWORD '...' IN ROLE {prefix}_producer;
-- Run this as a role that may create roles and owns the schema, with psql -v ON_ERROR_STOP=1, and again after each
-- upgrade of the schema: what a migration adds is granted to nobody before. Running it twice changes nothing.
--
--   {prefix}_viewer    reads everything that people look at, payloads and activity too; changes nothing
--   {prefix}_producer  inserts schedules and runs and calls the functions; reads neither payloads nor activity
--   {prefix}_worker    what a worker needs; it may do everything but change the schema
--   {prefix}_owner     owns the schema; migrations run as a member of it

begin;

do $$
declare
    wanted text;
begin
    foreach wanted in array '{{prefix}_viewer,{prefix}_producer,{prefix}_worker,{prefix}_owner}'::text[] loop
        if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
            execute format('create role %I nologin', wanted);
        end if;
    end loop;
end $$;

grant usage on schema watchbell to {prefix}_viewer, {prefix}_producer, {prefix}_worker;

-- Viewer: the views, and the tables behind them that people read. Not runs_live and runs_finished: they are the
-- engine's, and watchbell.runs shows both.
grant select on
    watchbell.runs, watchbell.upcoming, watchbell.running, watchbell.recent_failures, watchbell.queue_status,
    watchbell.worker_status, watchbell.schedule_history, watchbell.attention, watchbell.attention_schedules,
    watchbell.attention_runs, watchbell.attention_workers, watchbell.attention_watches, watchbell.attention_database,
    watchbell.schedules, watchbell.copies, watchbell.fires, watchbell.run_errors, watchbell.run_output, watchbell.queues,
    watchbell.limits, watchbell.handlers, watchbell.workers, watchbell.worker_requests, watchbell.backfills,
    watchbell.activity, watchbell.migrations,
    watchbell.watches, watchbell.watch_definitions, watchbell.watch_status, watchbell.watch_claims, watchbell.watch_totals,
    watchbell.watch_errors, watchbell.watch_states, watchbell.watch_faults
to {prefix}_viewer;

-- Producer: rows with the columns that people write, and the functions, which run as the owner.
grant insert (handler, payload, queue, priority, run_at, max_attempts, retry, timeout, start_deadline, unique_key,
              concurrency_key, target, tags, callback_url, notify_channel)
on watchbell.runs to {prefix}_producer;
grant insert (name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload, queue, priority,
              max_attempts, retry, timeout, overlap, max_running, misfire, misfire_grace, catch_up_window,
              catch_up_limit, start_deadline, jitter, pause_after_failures, concurrency_key, first_fire, starts_at,
              ends_at, max_fires, target, description, owner, runbook_url, tags, managed_by, declared_version, callback_url,
              notify_channel, keep_alive, copies)
on watchbell.schedules to {prefix}_producer;
grant execute on function
    watchbell.schedule, watchbell.unschedule, watchbell.pause, watchbell.resume, watchbell.skip_next,
    watchbell.run_now, watchbell.backfill, watchbell.expand_backfill, watchbell.enqueue, watchbell.enqueue_many,
    watchbell.cancel, watchbell.cancel_schedule, watchbell.retry, watchbell.retry_failed, watchbell.pause_queue,
    watchbell.resume_queue, watchbell.drain, watchbell.undrain, watchbell.schedule_id,
    watchbell.pause_watch, watchbell.resume_watch, watchbell.watch_id
to {prefix}_producer;
grant select on
    watchbell.upcoming, watchbell.running, watchbell.recent_failures, watchbell.queue_status, watchbell.worker_status,
    watchbell.schedule_history, watchbell.attention, watchbell.attention_schedules, watchbell.attention_runs,
    watchbell.attention_workers, watchbell.attention_watches, watchbell.attention_database,
    watchbell.backfills, watchbell.migrations,
    watchbell.watch_status, watchbell.watch_definitions
to {prefix}_producer;
-- Not what handlers print, which may quote payloads and rows.
revoke select on watchbell.watch_errors from {prefix}_producer;
grant select (watch_id, key, step, attempt, worker_id, kind, message, at) on watchbell.watch_errors to {prefix}_producer;
grant select (watch_id, key, step, claimed_by, claimed_at, attempt, crashes, due_at, error)
on watchbell.watch_claims to {prefix}_producer;
-- For watch_states, watch_counts and test_watch, which read the tables that the caller may read.
grant execute on function watchbell.watch_id to {prefix}_viewer;
-- Not watches, to write: a watch has its filter and its handlers work on tables by the rights of the worker's login. What
-- they are is in watch_definitions, without their payloads.
-- Whose runs and schedules they are is not known here, so nobody reads another's payload.
do $$
declare
    readable text;
    relation text;
begin
    foreach relation in array '{runs,schedules}'::text[] loop
        select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into readable
        from pg_catalog.pg_attribute a
        where a.attrelid = ('watchbell.' || relation)::regclass and a.attnum > 0 and not a.attisdropped
          and a.attname <> 'payload';
        execute format('grant select (%s) on watchbell.%I to {prefix}_producer', readable, relation);
    end loop;
end $$;

-- Worker.
grant select, insert, update, delete on all tables in schema watchbell to {prefix}_worker;
revoke insert, update, delete on watchbell.migrations from {prefix}_worker;
grant usage, select on all sequences in schema watchbell to {prefix}_worker;
grant execute on all functions in schema watchbell to {prefix}_worker;

-- Owner: everything in the schema becomes its own. Who owned it so far, and who runs this, become members, so that
-- they can migrate as before.
do $$
declare
    thing record;
    so_far constant name := (
        select pg_get_userbyid(nspowner) from pg_catalog.pg_namespace where nspname = 'watchbell');
begin
    -- Not asked whether they are members already: who creates a role may be one that cannot use it.
    for thing in select r.rolname as name from pg_catalog.pg_roles r
                 where r.rolname in (current_user, so_far) and r.rolname <> '{prefix}_owner' and not r.rolsuper loop
        execute format('grant {prefix}_owner to %I', thing.name);
    end loop;
    execute format('grant create on database %I to {prefix}_owner', current_database());
    execute 'alter schema watchbell owner to {prefix}_owner';
    -- Workers go on meanwhile. A change of owner locks out all others, and one after another these would meet a
    -- transaction that holds the next table and waits for one before: a deadlock. So each wait is shorter than the
    -- time after which the server looks for one (deadlock_timeout, 1 s), and then everything is let go and tried again.
    for tries in 1..100 loop
        begin
            set local lock_timeout = '500ms';
            for thing in
                select case c.relkind when 'v' then 'view' when 'S' then 'sequence' when 'c' then 'type' else 'table' end
                       || ' watchbell.' || quote_ident(c.relname) as name
                from pg_catalog.pg_class c
                where c.relnamespace = 'watchbell'::regnamespace and c.relkind in ('r', 'p', 'v', 'S', 'c')
                  and c.relowner <> '{prefix}_owner'::regrole
                  -- the sequence of an identity column goes with its table
                  and not (c.relkind = 'S' and exists (
                      select from pg_catalog.pg_depend d
                      where d.objid = c.oid and d.deptype in ('a', 'i') and d.refclassid = 'pg_class'::regclass))
                union all
                select 'function ' || p.oid::regprocedure
                from pg_catalog.pg_proc p
                where p.pronamespace = 'watchbell'::regnamespace and p.proowner <> '{prefix}_owner'::regrole
                order by name
            loop
                execute format('alter %s owner to {prefix}_owner', thing.name);
            end loop;
            exit;
        exception when lock_not_available or deadlock_detected then
            if tries = 100 then
                raise exception using errcode = '55P03',
                    message = 'somebody holds a table of watchbell, so its owner cannot be changed; nothing is changed',
                    hint = 'SELECT pid, query FROM pg_stat_activity WHERE state LIKE ''idle in transaction%''; then run this again.';
            end if;
            perform pg_sleep(random() / 5);
        end;
    end loop;
end $$;

commit;

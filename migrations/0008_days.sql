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

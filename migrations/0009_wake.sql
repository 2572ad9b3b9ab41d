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

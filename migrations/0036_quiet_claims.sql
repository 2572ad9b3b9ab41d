-- The wake-up of watched tables, as in 0033, but not for claims: moving rows to their via state is not news, and an
-- empty claim is a statement on the table too, by which two workers would keep one another awake for ever.
create or replace function watchbell.watch_changed() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if current_setting('watchbell.claiming', true) is distinct from 'on'
       and exists (select from watchbell.watch_sleepers s
                   where s.relation = tg_relid and s.sleepers_until > clock_timestamp()) then
        if pg_try_advisory_xact_lock(x'7764'::integer, pg_backend_pid() % 8) then
            perform pg_notify('watchbell', 'watches');
        end if;
    end if;
    return null;
end $$;

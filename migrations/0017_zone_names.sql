-- Names of time zones in any case: AT TIME ZONE and the workers take `utc` for `UTC`, as they take `europe/paris`,
-- and so does the check.
create or replace function watchbell.is_timezone(zone text) returns boolean
language plpgsql stable strict set search_path = watchbell, pg_temp as $$
begin
    if zone ~* '^UTC$' then
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

-- The grammar of cron expressions and time zone names, checked while the row is written. Nothing is
-- expanded: `1-100000000` costs no more than `1-5`. Whether an expression ever fires needs a calendar
-- and is found by the worker that takes the schedule up.
--
-- expression = [("TZ=" | "CRON_TZ=") zone blank] (nickname | "@every" duration | 5, 6 or 7 fields)
-- fields     = [second] minute hour day-of-month month day-of-week [year]; 5 have neither end, 7 have both
-- field      = term {"," term}     term = ("*" | n | n"-"n) ["/" step]; n/step means n-max/step
-- month JAN..DEC; day-of-week SUN..SAT or 0-7, where 0 and 7 are Sunday; names in any case
-- day-of-month also ? L LW nW; day-of-week also ? n#k n#L nL and a leading + (both day fields must match)

-- A number or name of a field; NULL for an unknown name. Absurdly long numbers are only known to be large.
create function watchbell.cron_number(value text, names text[], low integer) returns integer
language sql immutable set search_path = watchbell, pg_temp
return case
    when value !~ '^[0-9]+$' then array_position(names, upper(value)) - 1 + low
    when length(ltrim(value, '0')) > 8 then 99999999
    else value::integer
end;

create function watchbell.cron_term_problem(label text, term text, low integer, high integer, names text[]) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
declare
    -- Sunday has two numbers; a step still walks seven days.
    size constant integer := case label when 'day-of-week' then 7 else high - low + 1 end;
    part text[];
    bound text;
    n integer;
    previous integer;
begin
    if term = '' then
        return format('%s has an empty item', label);
    elsif term = '?' then
        return format('%s "?" must stand alone, in day-of-month or day-of-week', label);
    elsif label = 'day-of-month' and upper(term) in ('L', 'LW') then
        return null;
    elsif label = 'day-of-month' and upper(term) ~ '^[0-9]+W$' then
        return watchbell.cron_term_problem(label, left(term, -1), low, high, names);
    elsif label = 'day-of-week' and upper(term) ~ '^([0-9]+|[A-Z]+)(#[0-9A-Z]*|L)$' and upper(term) <> 'L' then
        part := regexp_match(upper(term), '^([0-9]+|[A-Z]+?)(#[0-9A-Z]*|L)$');
        if part[2] not in ('L', '#L') and part[2] !~ '^#0*[1-5]$' then
            return format('%s "%s" has no week "%s": weeks are 1-5 or L', label, term, substr(part[2], 2));
        end if;
        return watchbell.cron_term_problem(label, part[1], low, high, names);
    end if;

    part := regexp_match(term, '^(\*|([[:alnum:]]+)(?:-([[:alnum:]]+))?)(?:/([0-9]+))?$');
    if part is null then
        return format('%s "%s" is not a number, name, range, list or step', label, term);
    end if;
    foreach bound in array array_remove(part[2:3], null) loop
        n := watchbell.cron_number(bound, names, low);
        if n is null then
            return format('%s "%s" is not a number%s', label, bound,
                case when names is not null then format(' or a name %s-%s', names[1], names[cardinality(names)]) else '' end);
        elsif n not between low and high then
            return format('%s "%s" is out of range %s-%s', label, bound, low, high);
        elsif n < previous then
            return format('%s range "%s" runs backwards', label, part[1]);
        end if;
        previous := n;
    end loop;
    if part[4] is not null then
        n := watchbell.cron_number(part[4], null, 0);
        if n = 0 then
            return format('%s step "%s" must be at least 1', label, part[4]);
        elsif n > size then
            return format('%s step "%s" is above the field''s %s values; use fixed_rate for other periods', label, part[4], size);
        end if;
    end if;
    return null;
end $$;

create function watchbell.cron_field_problem(label text, field text) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
declare
    low integer := 0;
    high integer;
    names text[];
    term text;
    problem text;
begin
    case label
        when 'second', 'minute' then high := 59;
        when 'hour' then high := 23;
        when 'day-of-month' then low := 1; high := 31;
        when 'month' then low := 1; high := 12; names := '{JAN,FEB,MAR,APR,MAY,JUN,JUL,AUG,SEP,OCT,NOV,DEC}';
        when 'day-of-week' then high := 7; names := '{SUN,MON,TUE,WED,THU,FRI,SAT}';
        when 'year' then low := 1970; high := 2199;
    end case;
    if label = 'day-of-week' then
        field := regexp_replace(field, '^\+', '');
    end if;
    if field = '?' and label in ('day-of-month', 'day-of-week') then
        return null;
    elsif field = '' then
        return format('%s has an empty item', label);
    end if;
    foreach term in array string_to_array(field, ',') loop
        problem := watchbell.cron_term_problem(label, term, low, high, names);
        exit when problem is not null;
    end loop;
    return problem;
end $$;

-- What is wrong with a cron expression, and a hint that shows one like it; both NULL when it is well formed.
create function watchbell.cron_problem(expression text, out problem text, out hint text)
language plpgsql immutable set search_path = watchbell, pg_temp as $$
declare
    body text := btrim(expression, E' \t\r\n');
    prefix text := '';
    fields text[];
    labels text[] := '{second,minute,hour,day-of-month,month,day-of-week,year}';
    example text;
begin
    if octet_length(expression) > 256 then
        problem := format('%s bytes, more than the limit of 256', octet_length(expression));
        return;
    end if;
    if body ~ '^(CRON_)?TZ=' then
        prefix := substring(body from '^\S+\s*');
        body := substr(body, length(prefix) + 1);
        if body = '' then
            problem := 'a time zone without a schedule';
        end if;
    end if;
    if body ~ '^@' then
        if body in ('@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly') then
            return;
        elsif body ~ '^@every\s' then
            if watchbell.duration(regexp_replace(body, '^@every\s+', '')) is null then
                problem := format('"%s" is not a duration', regexp_replace(body, '^@every\s+', ''));
                hint := 'Try: @every 90s, @every 1h30m or @every 1d.';
            end if;
            return;
        end if;
        problem := case when body = '@reboot' then '@reboot is not a time: workers start and stop at any moment'
                        when body ~ '\s' then format('%s stands alone', substring(body from '^\S+'))
                        else format('unknown name "%s"', body) end;
        hint := 'Names: @yearly @annually @monthly @weekly @daily @midnight @hourly, and @every 90s.';
        return;
    end if;

    fields := case when body = '' then '{}' else regexp_split_to_array(body, '\s+') end;
    if cardinality(fields) not between 5 and 7 then
        problem := coalesce(problem, format('expected 5, 6 or 7 fields, found %s', cardinality(fields)));
        hint := 'Order: minute hour day-of-month month day-of-week, with second before and year after if wanted. '
                'Try: watchbell cron explain ''0 2 * * *''';
        return;
    end if;
    labels := case cardinality(fields) when 5 then labels[2:6] when 6 then labels[1:6] else labels end;
    for i in 1..cardinality(fields) loop
        problem := watchbell.cron_field_problem(labels[i], fields[i]);
        if problem is not null then
            -- The nearest thing that is valid: cut the field from its end until it is, 25 becomes 2.
            example := left(fields[i], -1);
            while example <> '' and watchbell.cron_field_problem(labels[i], example) is not null loop
                example := left(example, -1);
            end loop;
            fields[i] := coalesce(nullif(example, ''), '*');
            for k in i + 1..cardinality(fields) loop
                if watchbell.cron_field_problem(labels[k], fields[k]) is not null then
                    fields[k] := '*';
                end if;
            end loop;
            hint := format('Order: %s. Try: watchbell cron explain %L', array_to_string(labels, ' '),
                           prefix || array_to_string(fields, ' '));
            return;
        end if;
    end loop;
end $$;

-- Whether a name is one that PostgreSQL and the workers read alike: UTC or Area/Location. AT TIME ZONE
-- alone takes `foo5` for a POSIX zone; a POSIX zone needs a digit, so a name without one is safe to ask,
-- and the only names with digits are those of Etc. pg_timezone_names, which reads every file, is not asked.
create function watchbell.is_timezone(zone text) returns boolean
language plpgsql stable strict set search_path = watchbell, pg_temp as $$
begin
    if zone = 'UTC' then
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

-- A hint for an unknown zone: the same city elsewhere, a name that contains it, or the same beginning.
create function watchbell.timezone_hint(zone text) returns text
language sql stable set search_path = watchbell, pg_temp
begin atomic
    with wanted as (
        select lower(zone) as name, lower(regexp_replace(btrim(zone), '^.*/', '')) as place
    )
    select coalesce(
        (select format('Did you mean "%s"?', z.name)
         from wanted w, pg_catalog.pg_timezone_names z,
              lateral (select lower(z.name) as name, lower(regexp_replace(z.name, '^.*/', '')) as place) l
         where z.name ~ '^[A-Z][A-Za-z_]+(/[A-Za-z_-]+){1,2}$' and length(w.place) >= 3
           and (strpos(replace(l.name, '_', ''), translate(w.place, '_ ', '')) > 0 or left(l.place, 4) = left(w.place, 4))
         order by l.place = w.place desc, strpos(l.name, w.place) > 0 desc,
                  split_part(l.name, '/', 1) = split_part(w.name, '/', 1) desc, length(z.name), z.name
         limit 1),
        'Use UTC or an Area/Location name such as Europe/Paris: SELECT name FROM pg_timezone_names;');
end;

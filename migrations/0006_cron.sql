-- The grammar of cron expressions and time zone names, checked while the row is written. Nothing is
-- expanded: `1-100000000` costs no more than `1-5`. Whether an expression ever fires needs a calendar
-- and is found by the worker that takes the schedule up.
--
-- expression = [("TZ=" | "CRON_TZ=") zone blank] (nickname | "@every" duration | 5, 6 or 7 fields)
-- fields     = [second] minute hour day-of-month month day-of-week [year]; 5 have neither end, 7 have both
-- field      = term {"," term}     term = ("*" | n | n"-"n) ["/" step]; n/step means n-max/step
-- month JAN..DEC; day-of-week SUN..SAT or 0-7, where 0 and 7 are Sunday; names in any case
-- day-of-month also ? L LW nW; day-of-week also ? n#k n#L nL and a leading + (both day fields must match)

-- The range of a field, the names of its numbers from the lowest on, and both as a sentence says them.
create function watchbell.cron_range(field text, out low integer, out high integer, out names text[], out allowed text)
language plpgsql immutable set search_path = watchbell, pg_temp as $$
begin
    case field
        when 'second', 'minute' then low := 0; high := 59;
        when 'hour' then low := 0; high := 23;
        when 'day of month' then low := 1; high := 31;
        when 'month' then low := 1; high := 12; names := '{JAN,FEB,MAR,APR,MAY,JUN,JUL,AUG,SEP,OCT,NOV,DEC}';
        when 'day of week' then low := 0; high := 7; names := '{SUN,MON,TUE,WED,THU,FRI,SAT}';
        when 'year' then low := 1970; high := 2199;
    end case;
    allowed := low || '-' || high || coalesce(' or ' || names[1] || '-' || names[cardinality(names)], '');
end $$;

-- One number or name.
create function watchbell.cron_number(field text, value text, out n integer, out problem text)
language plpgsql immutable set search_path = watchbell, pg_temp as $$
declare
    range constant record := watchbell.cron_range(field);
begin
    n := array_position(range.names, upper(value collate "C")) - 1 + range.low;
    if n is not null then
        return;
    elsif value !~ '^[0-9]+$' then
        problem := format('%s "%s" is not one of %s', field, watchbell.shown(value), range.allowed);
        return;
    end if;
    n := case when length(ltrim(value, '0')) > 8 then 99999999 else value::integer end;
    if n not between range.low and range.high then
        problem := format('%s "%s" is out of range %s-%s', field, watchbell.shown(value), range.low, range.high);
    end if;
end $$;

-- `*`, `n`, `n-m`, each perhaps with `/step`.
create function watchbell.cron_term_problem(field text, term text) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
declare
    range constant record := watchbell.cron_range(field);
    -- Sunday has two numbers; a step still walks seven days.
    size constant integer := case field when 'day of week' then 7 else range.high - range.low + 1 end;
    numbers constant text := split_part(term, '/', 1);
    step constant text := substr(term, length(numbers) + 2);
    low record;
    high record;
begin
    if term = '' then
        return format('%s has an empty item (allowed %s)', field, range.allowed);
    elsif strpos(term, '/') > 0 then
        if step !~ '^[0-9]+$' then
            return format('%s step "%s" is not a number 1-%s', field, watchbell.shown(step), size);
        elsif length(ltrim(step, '0')) not between 1 and 3 or step::integer > size then
            return format('%s step "%s" is out of range 1-%s%s', field, watchbell.shown(step), size,
                case when step ~ '[1-9]' then ' (for longer periods use fixed_rate)' else '' end);
        elsif numbers = '' then
            return format('%s "%s" has no start before its step (allowed %s)',
                          field, watchbell.shown(term), range.allowed);
        end if;
    end if;
    if numbers = '*' then
        return null;
    end if;
    low := watchbell.cron_number(field, split_part(numbers, '-', 1));
    if low.problem is not null or strpos(numbers, '-') = 0 then
        return low.problem;
    end if;
    high := watchbell.cron_number(field, substr(numbers, strpos(numbers, '-') + 1));
    if high.problem is null and low.n > high.n then
        return format('%s "%s" runs backwards (allowed %s)', field, watchbell.shown(numbers), range.allowed);
    end if;
    return high.problem;
end $$;

-- A whole field: terms with commas between them, and what the two day fields may say besides.
create function watchbell.cron_field_problem(field text, value text) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
declare
    term text;
    problem text;
begin
    if field = 'day of week' then
        value := regexp_replace(value, '^\+', '');
    end if;
    if value = '?' and field in ('day of month', 'day of week') then
        return null;
    end if;
    foreach term in array case value when '' then array[''] else string_to_array(value, ',') end loop
        problem := case
            when field = 'day of month' and term ~* '^LW?$' then null
            when field = 'day of month' and term ~* 'W$' then (watchbell.cron_number(field, left(term, -1))).problem
            when field = 'day of week' and strpos(term, '#') > 0 then
                case when substr(term, strpos(term, '#') + 1) ~ '^[1-5Ll]$'
                     then (watchbell.cron_number(field, split_part(term, '#', 1))).problem
                     else format('%s "%s" has no week 1-5 or L after "#"', field, watchbell.shown(term)) end
            when field = 'day of week' and term ~* '^L$' then
                format('%s "%s" names no weekday: write 6L for the last Saturday', field, term)
            when field = 'day of week' and term ~* 'L$' then (watchbell.cron_number(field, left(term, -1))).problem
            else watchbell.cron_term_problem(field, term)
        end;
        exit when problem is not null;
    end loop;
    return problem;
end $$;

-- The nearest thing that is valid, for a hint: cut the field from its end until it is, so 25 becomes 2.
create function watchbell.cron_field_like(field text, value text) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
begin
    while value <> '' and watchbell.cron_field_problem(field, value) is not null loop
        value := left(value, -1);
    end loop;
    return coalesce(nullif(value, ''), '*');
end $$;

-- The period of `@every 5m`, in whole seconds and at least one; NULL when it is no such thing.
create function watchbell.every(expression text) returns interval
language sql immutable set search_path = watchbell, pg_temp
return (select make_interval(secs => greatest(floor(extract(epoch from d)), 1)::double precision)
        from watchbell.duration(substring(expression from
            '^[ \t\r\n\f]*(?:(?:CRON_)?TZ=[^ \t\r\n\f]+[ \t\r\n\f]+)?@every[ \t\r\n\f]+(.*)$')) d
        where d >= '0' and d <= '36525 days');

-- What is wrong with a cron expression, and a hint; both NULL when it is well formed. The sentences are those
-- of the worker's own parser.
create function watchbell.cron_problem(expression text, out problem text, out hint text)
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    trimmed constant text := btrim(expression, E' \t\r\n\f');
    prefix constant text := coalesce(substring(trimmed from '^(?:CRON_)?TZ=[^ \t\r\n\f]*[ \t\r\n\f]*'), '');
    zone constant text := substring(prefix from '=([^ \t\r\n\f]*)');
    body constant text := substr(trimmed, length(prefix) + 1);
    names text[] := '{second,minute,hour,day of month,month,day of week,year}';
    fields text[];
begin
    if octet_length(expression) > 256 then
        problem := format('it has %s bytes, at most 256 are allowed', octet_length(expression));
        hint := 'Split it into several schedules.';
        return;
    elsif not watchbell.is_timezone(zone) then
        problem := format('timezone "%s" is unknown', watchbell.shown(zone));
        hint := watchbell.timezone_hint(zone);
        return;
    elsif body ~ '^@every[ \t\r\n\f]' then
        if watchbell.every(body) is null then
            problem := format('"%s" is not a duration', watchbell.shown(substring(body from '^@every\s+(.*)$')));
            hint := 'Try: @every 90s, @every 1h30m or @every 1d.';
        end if;
        return;
    elsif body ~ '^@' then
        if body not in ('@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly') then
            problem := format('"%s" is not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly',
                              watchbell.shown(body));
            hint := case body when '@reboot' then 'For once, now, set run_at to now().'
                              else 'For a period write @every 90s, or set fixed_rate.' end;
        end if;
        return;
    end if;

    fields := case when body = '' then '{}' else regexp_split_to_array(body, '[ \t\r\n\f]+') end;
    if cardinality(fields) not between 5 and 7 then
        problem := format('expected 5, 6 or 7 fields, found %s', cardinality(fields));
        hint := 'Order: minute hour day-of-month month day-of-week; a second goes before, a year after. '
                'Try: watchbell cron explain ''0 2 * * *''';
        return;
    end if;
    names := case cardinality(fields) when 5 then names[2:6] when 6 then names[1:6] else names end;
    for i in 1..cardinality(fields) loop
        problem := coalesce(problem, watchbell.cron_field_problem(names[i], fields[i]));
        fields[i] := watchbell.cron_field_like(names[i], fields[i]);
    end loop;
    if problem is not null then
        hint := format('Order: %s. Try: watchbell cron explain %L',
            translate(array_to_string(names, ','), ' ,', '- '), prefix || array_to_string(fields, ' '));
    end if;
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
           and (strpos(replace(l.name, '_', ''), translate(w.place, '_ ', '')) > 0
                or left(l.place, 4) = left(w.place, 4))
         order by l.place = w.place desc, strpos(l.name, w.place) > 0 desc,
                  split_part(l.name, '/', 1) = split_part(w.name, '/', 1) desc, length(z.name), z.name
         limit 1),
        'Use UTC or an Area/Location name such as Europe/Paris: SELECT name FROM pg_timezone_names;');
end;

-- What the row checks of runs and schedules share: the clock, what a refusal consists of, and the
-- rules for columns that both have. Functions named `.._problem` answer NULL when all is well, and
-- otherwise the end of a sentence that begins with the row's name.

-- The transaction's time; a test may set it for its session: set watchbell.now = '2030-01-01 00:00Z'.
create function watchbell.clock() returns timestamptz
language sql stable set search_path = watchbell, pg_temp
return coalesce(nullif(current_setting('watchbell.now', true), '')::timestamptz, now());

-- This instant, later than `clock()` in a long transaction: when a run ended.
create function watchbell.instant() returns timestamptz
language sql volatile set search_path = watchbell, pg_temp
return coalesce(nullif(current_setting('watchbell.now', true), '')::timestamptz, clock_timestamp());

-- A value of any length and content as it may stand inside one sentence.
create function watchbell.shown(value text) returns text
language sql immutable set search_path = watchbell, pg_temp
return regexp_replace(left(value, 80), '[[:cntrl:]]', ' ', 'g') || case when length(value) > 80 then '...' else '' end;

-- Why a row is refused: the column at fault, one sentence, what to do instead, and the SQLSTATE (23514 for a
-- value outside its limits, 22023 for one that cannot be read). All NULL: it is accepted. Only the outermost
-- function raises it, so that the error is not buried under the lines of its callers.
create type watchbell.refusal as ("column" text, sentence text, hint text, code text);

create function watchbell.refused("column" text, sentence text, hint text, code text default '23514')
returns watchbell.refusal language sql immutable set search_path = watchbell, pg_temp
return ("column", sentence, hint, code)::watchbell.refusal;

-- A text such as 90s, 1h30m, 2 days, PT1H or 1 day 02:00:00, as workers read it too; NULL when it is none.
-- PostgreSQL alone would take "5" for seconds and "5M" for minutes.
create function watchbell.duration(value text) returns interval
language plpgsql immutable strict set search_path = watchbell, pg_temp as $$
declare
    clean constant text := btrim(value, E' \t\r\n\f');
begin
    if octet_length(clean) > 64 or clean !~ (
            '^@? *(([0-9]+(\.[0-9]*)?|\.[0-9]+) *(us|ms|msecs?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?'
            '|h|hrs?|hours?|d|days?|w|weeks?) *|[0-9]+:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)? *)+$'
            '|^P(?=.)([0-9.]+W)?([0-9.]+D)?(T(?=.)([0-9.]+H)?([0-9.]+M)?([0-9.]+S)?)?$') then
        return null;
    end if;
    -- '1w 2d' is an interval to PostgreSQL, '1w2d' is none.
    return regexp_replace(clean, '([a-z])(?=[0-9.])', '\1 ', 'g')::interval;
exception when invalid_datetime_format or datetime_field_overflow or interval_field_overflow then
    return null;
end $$;

-- Months have no fixed length, and now() plus a very long interval is out of range for ever after.
create function watchbell.interval_problem("column" text, value interval, minimum interval) returns text
language plpgsql immutable set search_path = watchbell, pg_temp as $$
begin
    return case
        when value is null then null
        when not isfinite(value) then format('%s must be finite (got %s)', "column", value)
        when extract(year from value) <> 0 or extract(month from value) <> 0
            then format('%s %s counts months, which have no fixed length', "column", value)
        when minimum = '0' and value < minimum then format('%s %s is below 0', "column", value)
        when value < minimum then format('%s %s is shorter than the least of %s', "column", value, minimum)
        when value > interval '36525 days' then format('%s %s is longer than the limit of 36525 days', "column", value)
    end;
end $$;

-- Workers cannot represent an infinite time.
create function watchbell.time_problem("column" text, value timestamptz) returns text
language sql stable set search_path = watchbell, pg_temp
return case when value < '0001-01-01 00:00Z' or value >= '9999-01-01 00:00Z'
    then format('%s %s is outside the years 1 to 9998', "column", value) end;

create function watchbell.length_problem("column" text, value text, maximum integer) returns text
language sql immutable set search_path = watchbell, pg_temp
return case when octet_length(value) > maximum
    then format('%s is %s bytes, more than the limit of %s', "column", octet_length(value), maximum) end;

create function watchbell.range_problem("column" text, value bigint, minimum bigint, maximum bigint default null)
returns text language sql immutable set search_path = watchbell, pg_temp
return case
    when value < minimum and maximum is null then format('%s %s is below %s', "column", value, minimum)
    when value not between minimum and maximum
        then format('%s %s is out of range %s-%s', "column", value, minimum, maximum)
end;

create function watchbell.choice_problem("column" text, value text, choices text[]) returns text
language sql immutable set search_path = watchbell, pg_temp
return case when value <> all (choices)
    then format('%s "%s" is not one of %s', "column", watchbell.shown(value), array_to_string(choices, ', ')) end;

create function watchbell.key_problem("column" text, value text) returns text
language sql immutable set search_path = watchbell, pg_temp
return case
    when value = '' then format('%s is empty', "column")
    else watchbell.length_problem("column", value, 256)
end;

-- Workers read tags as a plain list of texts.
create function watchbell.tags_problem(tags text[]) returns text
language sql immutable set search_path = watchbell, pg_temp
return case
    when array_ndims(tags) > 1 then 'tags must be a plain list'
    when array_position(tags, null) is not null then 'tags must not contain NULL'
    when cardinality(tags) > 100 then format('tags has %s entries, more than the limit of 100', cardinality(tags))
    when octet_length(array_to_string(tags, '')) > 8192 then 'tags are longer than the limit of 8192 bytes'
end;

-- Label pairs without blanks: 'host = a, zone=b' becomes 'host=a,zone=b'. NULL when it is no selector.
create function watchbell.selector(target text) returns text
language sql immutable strict set search_path = watchbell, pg_temp
return (select case when octet_length(s) <= 256
                     and s ~ '^[A-Za-z0-9][A-Za-z0-9._/-]*=[^\s,=]+(,[A-Za-z0-9][A-Za-z0-9._/-]*=[^\s,=]+)*$' then s end
        from regexp_replace(btrim(target, E' \t\r\n'), '\s*([,=])\s*', '\1', 'g') s);

-- {"strategy": "exponential|linear|fixed|list", "base": "5s", "max": "1h", "jitter": true, "list": ["1s"]}
create function watchbell.retry_problem(retry jsonb) returns text
language plpgsql immutable strict set search_path = watchbell, pg_temp as $$
declare
    wrong text;
begin
    if jsonb_typeof(retry) <> 'object' then
        return format('retry must be a JSON object (got %s)', jsonb_typeof(retry));
    end if;
    select k into wrong from jsonb_object_keys(retry) k where k <> all ('{strategy,base,max,jitter,list}') limit 1;
    if found then
        return format('retry has an unknown key "%s"', watchbell.shown(wrong));
    end if;
    if retry ? 'strategy' and coalesce(retry->>'strategy', '') <> all ('{exponential,linear,fixed,list}') then
        return watchbell.choice_problem('retry strategy', coalesce(retry->>'strategy', ''),
                                        '{exponential,linear,fixed,list}');
    end if;
    if retry ? 'jitter' and jsonb_typeof(retry->'jitter') <> 'boolean' then
        return format('retry jitter must be true or false (got %s)', watchbell.shown((retry->'jitter')::text));
    end if;
    if (retry->>'strategy' is not distinct from 'list') <> (retry ? 'list') then
        return 'retry strategy "list" and a "list" of waits belong together';
    end if;
    if retry ? 'list' and (jsonb_typeof(retry->'list') <> 'array'
            or jsonb_array_length(retry->'list') not between 1 and 100) then
        return 'retry list must be an array of 1 to 100 waits';
    end if;
    select w.value::text into wrong
    from (select value from jsonb_each(retry) where key in ('base', 'max')
          union all
          select value from jsonb_array_elements(case when retry ? 'list' then retry->'list' else '[]' end)) w
    where jsonb_typeof(w.value) <> 'string'
       or coalesce(watchbell.interval_problem('', watchbell.duration(w.value #>> '{}'), '1 ms'), '') <> ''
       or watchbell.duration(w.value #>> '{}') is null
    limit 1;
    if found then
        return format('retry wait %s is not a duration such as "5s", "1h30m" or "2 days"', watchbell.shown(wrong));
    end if;
    return null;
end $$;

-- The columns that say how work is done, the same in runs and schedules. NULL passes: it is a default.
-- The caller puts the row's name before the sentence. A name's length is no `{0,127}` in its pattern: that costs 13 us.
create function watchbell.work_refusal(
    handler text, payload jsonb, queue text, priority integer, max_attempts integer, retry jsonb,
    timeout interval, concurrency_key text, target text, tags text[]
) returns watchbell.refusal language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    problem text;
begin
    if handler is null or handler !~ '^\S(.*\S)?$' then
        return watchbell.refused('handler', 'handler is missing',
            'Name the handler that does the work: sql or one of your own.');
    elsif octet_length(handler) > 256 then
        return watchbell.refused('handler', watchbell.length_problem('handler', handler, 256),
            'Name the handler that does the work: sql or one of your own.');
    elsif jsonb_typeof(payload) <> 'object' then
        return watchbell.refused('payload', format('payload must be a JSON object (got %s)', jsonb_typeof(payload)),
            'Wrap the value: {"value": ...}.', '22023');
    -- As text, because that is how it travels: 1e100000 is short in storage and long on the wire.
    elsif octet_length(payload::text) > 1048576 then
        return watchbell.refused('payload', watchbell.length_problem('payload', payload::text, 1048576),
            'Store large data elsewhere and pass its address.');
    elsif queue !~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' or length(queue) > 128 then
        return watchbell.refused('queue', format('queue "%s" is not a valid name', watchbell.shown(queue)),
            'A name has 1 to 128 letters, digits and . _ : - and begins with a letter or digit.', '22023');
    elsif priority not between 0 and 9 then
        return watchbell.refused('priority', format('priority %s is out of range 0-9 (0 runs first)', priority),
            'The default is 5.');
    elsif max_attempts not between 1 and 100 then
        return watchbell.refused('max_attempts', watchbell.range_problem('max_attempts', max_attempts, 1, 100),
            '1 means that a failed run is not tried again.');
    end if;
    if timeout is not null then
        problem := watchbell.interval_problem('timeout', timeout, '1 ms');
        if problem is not null then
            return watchbell.refused('timeout', problem, 'NULL means no timeout.');
        end if;
    end if;
    if retry is not null then
        problem := watchbell.retry_problem(retry);
        if problem is not null then
            return watchbell.refused('retry', problem,
                'Example: {"strategy": "exponential", "base": "5s", "max": "1h", "jitter": true}.', '22023');
        end if;
    end if;
    if concurrency_key is not null then
        problem := watchbell.key_problem('concurrency_key', concurrency_key);
        if problem is not null then
            return watchbell.refused('concurrency_key', problem, 'Runs with one key share its limit; NULL means none.');
        end if;
    end if;
    if target is not null and watchbell.selector(target) is null then
        return watchbell.refused('target', format('target "%s" is not a label selector', watchbell.shown(target)),
            'Write label=value[,label=value], such as host=db1 or zone=a,disk=ssd.', '22023');
    end if;
    if tags is not null then
        problem := watchbell.tags_problem(tags);
        if problem is not null then
            return watchbell.refused('tags', problem, 'Write a list of short texts: ''{nightly,billing}''.', '22023');
        end if;
    end if;
    return null;
end $$;

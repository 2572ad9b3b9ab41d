-- A watch's row is refused at once when it cannot work, in one sentence with the statement that mends it, and an
-- edit is looked at anew by a worker. Nothing here runs as the schema's owner: whoever writes a watch sees and may
-- do here no more than in psql, its filter included.

-- A table as the row names it. Without a schema it is looked for as by the login's own search_path, which is what
-- a worker of that login has too; a path set later in the session does not count.
create function watchbell.watched_table(table_name text) returns regclass
language plpgsql stable set search_path = watchbell, pg_temp as $$
begin
    perform set_config('search_path', s.reset_val, true) from pg_catalog.pg_settings s where s.name = 'search_path';
    return to_regclass(table_name);
exception when others then
    return null; -- no name at all, such as "a b" or "a.b.c.d"
end $$;

-- The words of a list of columns: name, direction, rest. A name in double quotes may contain anything.
create function watchbell.ordered_columns(order_by text, out name text, out direction text, out rest text)
returns setof record language plpgsql immutable strict set search_path = watchbell, pg_temp as $$
declare
    word text[];
begin
    rest := order_by;
    loop
        word := regexp_match(rest,
            '^\s*("(?:[^"]|"")+"|[[:alpha:]_][[:alnum:]_$]*)(\s+(?:asc|desc))?\s*(?:,(?!\s*$)(.*))?$', 'is');
        if word is null then
            name := null;
            return next;
            return;
        end if;
        name := case when word[1] like '"%' then replace(substr(word[1], 2, length(word[1]) - 2), '""', '"')
                     else lower(word[1]) end;
        direction := coalesce(lower(btrim(word[2], E' \t\r\n')), 'asc');
        rest := word[3];
        return next;
        exit when rest is null;
    end loop;
end $$;

-- A condition is put into brackets in a statement of the engine's: it may not end them, nor hide anything.
create function watchbell.filter_problem(filter text) returns text
language plpgsql immutable strict set search_path = watchbell, pg_temp as $$
declare
    bare text;
    letter text;
    depth integer := 0;
begin
    if octet_length(filter) > 8192 then
        return watchbell.length_problem('filter', filter, 8192);
    elsif filter ~ '\m(E|U&)[''"]' or filter ~ '\m(e|u&)[''"]' or filter ~ '\$[A-Za-z_0-9]*\$' then
        return 'filter has a string that is not in plain quotes';
    end if;
    bare := regexp_replace(filter, '''([^'']|'''')*''|"([^"]|"")*"', 'x', 'g');
    if bare ~ '^\s*$' then
        return 'filter is empty';
    elsif bare ~ '[''"]' then
        return 'filter has a quote that is not closed';
    elsif bare ~ ';|--|/\*|\*/' then
        return 'filter has a semicolon or a comment';
    end if;
    foreach letter in array string_to_array(regexp_replace(bare, '[^()]', '', 'g'), null) loop
        depth := depth + case letter when '(' then 1 else -1 end;
        exit when depth < 0;
    end loop;
    return case when depth <> 0 then 'filter has brackets that do not match' end;
end $$;

-- One step of a watch as a row of its own: what a step does not say is as in the watch.
create function watchbell.watch_step(w watchbell.watches, step jsonb) returns watchbell.watches
language sql stable set search_path = watchbell, pg_temp
return jsonb_populate_record(w, (step - '{from,via,to,error}'::text[]) || jsonb_build_object(
    'from_state', step->'from', 'via_state', step->'via', 'to_state', step->'to',
    'error_state', coalesce(step->'error', to_jsonb(w.error_state)), 'transitions', null));

-- The steps of a watch in order: itself, or its transitions.
create function watchbell.watch_steps(w watchbell.watches) returns setof watchbell.watches
language sql stable set search_path = watchbell, pg_temp
begin atomic
    select s.* from watchbell.watch_step(w, jsonb_build_object('from', w.from_state, 'via', w.via_state,
                                                               'to', w.to_state, 'error', w.error_state)) s
    where w.transitions is null
    union all
    select s.* from (select * from jsonb_array_elements(w.transitions) with ordinality e (step, n) order by e.n) e,
                    watchbell.watch_step(w, e.step) s;
end;

-- What is wrong with the list itself; its steps' values are looked at as those of a watch.
create function watchbell.transitions_problem(transitions jsonb) returns text
language plpgsql stable strict set search_path = watchbell, pg_temp as $$
declare
    known constant text[] := '{from,via,to,error,handler,payload,mode,batch_size,max_running,rate_limit,rate_period,'
                             'order_by,filter,timeout,retry,max_attempts}';
    step jsonb;
    n integer := 0;
    wrong text;
begin
    if jsonb_typeof(transitions) <> 'array' then
        return format('it must be a list of objects (got %s)', jsonb_typeof(transitions));
    elsif jsonb_array_length(transitions) not between 1 and 50 then
        return format('%s steps are out of range 1-50', jsonb_array_length(transitions));
    end if;
    for step in select e from jsonb_array_elements(transitions) e loop
        n := n + 1;
        if jsonb_typeof(step) <> 'object' then
            return format('step %s must be an object (got %s)', n, jsonb_typeof(step));
        end if;
        select k into wrong from jsonb_object_keys(step) k where k <> all (known) limit 1;
        if found then
            return format('step %s has an unknown key "%s"%s', n, watchbell.shown(wrong),
                (select format('; did you mean "%s"?', k)
                 from unnest(known) k where watchbell.likeness(k, wrong) >= 0.4
                 order by watchbell.likeness(k, wrong) desc, k limit 1));
        end if;
        select k into wrong from unnest('{from,to,handler}'::text[]) k where step->>k is null limit 1;
        if found then
            return format('step %s has no "%s"', n, wrong);
        end if;
        select k into wrong from unnest('{from,via,to,error,handler,mode,order_by,filter}'::text[]) k
        where jsonb_typeof(step->k) not in ('string', 'number', 'null')
           or (jsonb_typeof(step->k) = 'number' and k <> all ('{from,via,to,error}')) limit 1;
        if found then
            return format('step %s: "%s" must be a string (got %s)', n, wrong, jsonb_typeof(step->wrong));
        end if;
        select k into wrong from unnest('{timeout,rate_period}'::text[]) k
        where jsonb_typeof(step->k) <> 'null'
          and (jsonb_typeof(step->k) <> 'string' or watchbell.duration(step->>k) is null) limit 1;
        if found then
            return format('step %s: "%s" %s is not a duration such as "5s", "1h30m" or "2 days"', n, wrong,
                watchbell.shown((step->wrong)::text));
        end if;
    end loop;
    -- A state is the beginning of one step and is passed through by one.
    select format('two steps begin at "%s"', watchbell.shown(s)) into wrong
    from (select e->>'from' as s from jsonb_array_elements(transitions) e) f group by s having count(*) > 1 limit 1;
    if found then
        return wrong;
    end if;
    select format('"via" state "%s" of one step is a state of another', watchbell.shown(v.via)) into wrong
    from (select e->>'via' as via, x.place from jsonb_array_elements(transitions) with ordinality x (e, place)) v
    where exists (select from jsonb_array_elements(transitions) with ordinality x (e, place)
                  where x.place <> v.place and v.via in (e->>'from', e->>'via', e->>'to', e->>'error')) limit 1;
    if found then
        return wrong;
    end if;
    -- A row that succeeds comes to rest; where an error leads is free.
    with recursive walk (at, path, returns) as (
        select e->>'to', array[e->>'from'], false from jsonb_array_elements(transitions) e
        union all
        select e->>'to', w.path || w.at, w.at = any (w.path)
        from walk w join jsonb_array_elements(transitions) e on e->>'from' = w.at
        where not w.returns and cardinality(w.path) <= 51
    )
    select format('the steps lead in a circle: %s', array_to_string(path, ' -> ')) into wrong
    from walk where returns or at = any (path) order by cardinality(path), path limit 1;
    return wrong;
end $$;

-- The values of one step, which stand in the watch or in one of its transitions.
create function watchbell.step_refusal(s watchbell.watches) returns watchbell.refusal
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
begin
    if s.handler is null or s.handler !~ '^\S(.*\S)?$' or octet_length(s.handler) > 256 then
        return watchbell.refused('handler',
            coalesce(watchbell.length_problem('handler', s.handler, 256), 'handler is missing'),
            'Name the handler that does the work: sql or one of your own.');
    elsif jsonb_typeof(s.payload) <> 'object' then
        return watchbell.refused('payload', format('payload must be a JSON object (got %s)', jsonb_typeof(s.payload)),
            'Wrap the value: {"value": ...}.', '22023');
    elsif octet_length(s.payload::text) > 1048576 then
        return watchbell.refused('payload', watchbell.length_problem('payload', s.payload::text, 1048576),
            'Store large data elsewhere and pass its address.');
    end if;
    select v."column", v.problem, v.hint, '23514' into refusal from (values
        ('from_state', case when s.from_state in (s.to_state, s.error_state) or s.via_state = s.from_state
            then format('a row would come back to "%s" and be taken for ever', watchbell.shown(s.from_state)) end,
            'from, via, to and error are different states.'),
        ('via_state', case when s.via_state in (s.to_state, s.error_state)
            then format('via_state "%s" is also where the step ends', watchbell.shown(s.via_state)) end,
            'It is the state of rows in work only; NULL leaves them where they are.'),
        ('mode', watchbell.choice_problem('mode', s.mode, '{auto,transactional,leased}'),
            'transactional: the handler works inside our transaction; leased: outside, under a lease.'),
        ('batch_size', watchbell.range_problem('batch_size', s.batch_size, 1, 1000), 'The default is 100.'),
        ('max_running', watchbell.range_problem('max_running', s.max_running, 1, 1000000), 'NULL means no limit.'),
        ('rate_limit', watchbell.range_problem('rate_limit', s.rate_limit, 1, 1000000),
            'How many rows may start per rate_period; NULL means any number.'),
        ('rate_period', watchbell.interval_problem('rate_period', s.rate_period, '1 ms'), 'The default is 1 s.'),
        ('timeout', watchbell.interval_problem('timeout', s.timeout, '1 ms'), 'NULL means no timeout.'),
        ('max_attempts', watchbell.range_problem('max_attempts', s.max_attempts, 1, 100),
            '1 means that a failed row is not tried again.'),
        ('retry', watchbell.retry_problem(s.retry),
            'Example: {"strategy": "exponential", "base": "5s", "max": "1h", "jitter": true}.'),
        ('order_by', (select format('order_by has at "%s" no column with asc or desc', watchbell.shown(o.rest))
                      from watchbell.ordered_columns(s.order_by) o where o.name is null),
            'Example: priority desc, created_at.'),
        ('filter', watchbell.filter_problem(s.filter), 'Example: retries < 3 AND owner IS NOT NULL.')
    ) v ("column", problem, hint) where v.problem is not null limit 1;
    return refusal;
end $$;

create function watchbell.watch_refusal(w watchbell.watches) returns watchbell.refusal
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
    n integer := 0;
    step jsonb;
begin
    if w.name is null or w.name !~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' or length(w.name) > 128 then
        return watchbell.refused('name',
            coalesce('watch "' || watchbell.shown(w.name) || '": this is not a valid name', 'watch has no name'),
            'A name has 1 to 128 letters, digits and . _ : - and begins with a letter or digit.', '22023');
    elsif num_nonnulls(w.handler, w.transitions) <> 1 then
        return watchbell.refused('handler', format('watch "%s" must set exactly one of handler, transitions (got %s)',
                w.name, case when w.handler is null then 'none' else 'both' end),
            'One step has its handler in the row; several have one each in transitions.');
    elsif w.transitions is not null and (w.via_state is not null or watchbell.transitions_problem(w.transitions) is not null) then
        return watchbell.refused('transitions', format('watch "%s": transitions: %s', w.name,
                coalesce(watchbell.transitions_problem(w.transitions), 'via_state belongs into each step, as "via"')),
            'Example: [{"from": "pending", "via": "loading", "to": "loaded", "handler": "load"}, '
            '{"from": "loaded", "to": "normal", "handler": "train"}].', '22023');
    end if;
    for step in select e from jsonb_array_elements(coalesce(w.transitions, '[null]')) e loop
        n := n + 1;
        begin
            refusal := watchbell.step_refusal(case when w.transitions is null then w else watchbell.watch_step(w, step) end);
        exception when data_exception then
            refusal := watchbell.refused('transitions', sqlerrm, 'A step has the columns of a watch.', '22023');
        end;
        if refusal is not null then
            refusal.sentence := format('watch "%s": %s%s', w.name,
                case when w.transitions is not null then format('step %s: ', n) end, refusal.sentence);
            refusal."column" := case when w.transitions is null then refusal."column" else 'transitions' end;
            return refusal;
        end if;
    end loop;
    select v."column", format('watch "%s": %s', w.name, v.problem), v.hint, '23514' into refusal from (values
        ('poll_interval', watchbell.interval_problem('poll_interval', w.poll_interval, '0.1 s'), 'The default is 1 s.'),
        ('poll_interval', case when w.poll_interval > '1 day'
            then format('poll_interval %s is longer than the limit of 1 day', w.poll_interval) end, 'The default is 1 s.'),
        ('paused_until', watchbell.time_problem('paused_until', w.paused_until), 'NULL means until it is resumed.'),
        ('description', watchbell.length_problem('description', w.description, 8192), 'Put longer text behind runbook_url.'),
        ('owner', watchbell.length_problem('owner', w.owner, 256), 'A person, team or address.'),
        ('runbook_url', watchbell.length_problem('runbook_url', w.runbook_url, 2048), 'An address.'),
        ('tags', watchbell.tags_problem(w.tags), 'Write a list of short texts: ''{nightly,billing}''.'),
        ('managed_by', watchbell.length_problem('managed_by', w.managed_by, 256),
            'What writes this row, such as a file or a program.')
    ) v ("column", problem, hint) where v.problem is not null limit 1;
    return refusal;
end $$;

-- 2. Decide what a worker has to look at anew.
create function watchbell.watches_plan() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    declared bigint;
    same boolean;
begin
    if tg_op = 'INSERT' then
        new.created_by := session_user;
        new.created_at := watchbell.clock();
        new.version := 1;
        new.plan := null;
        new.planned_at := null;
    else
        -- The same again, if by a newer version of the program, is no edit.
        declared := new.declared_version;
        new.declared_version := old.declared_version;
        same := new is not distinct from old;
        new.declared_version := declared;
        if same then
            return new;
        end if;
        new.version := old.version + 1;
    end if;
    new.updated_at := watchbell.clock();
    new.status := 'pending';
    new.error := null;
    new.wake_at := '-infinity';
    return new;
end $$;

create function watchbell.watches_resume() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
begin
    new.status := 'pending';
    new.wake_at := '-infinity';
    new.paused_by := null;
    new.paused_until := null;
    new.pause_note := null;
    new.updated_at := watchbell.clock();
    return new;
end $$;

create trigger watches_2_plan before insert or update of
    name, table_name, handler, payload, key_columns, status_column, since_column, from_state, via_state, to_state,
    error_state, transitions, mode, batch_size, max_running, rate_limit, rate_period, order_by, filter, poll_interval,
    timeout, retry, max_attempts, description, owner, runbook_url, tags, managed_by
on watchbell.watches for each row execute function watchbell.watches_plan();

create trigger watches_3_resume before update of paused_at
on watchbell.watches for each row when (old.paused_at is not null and new.paused_at is null)
execute function watchbell.watches_resume();

-- Edits are rare, so a NOTIFY needs no gate here.
create function watchbell.watches_wake() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    perform pg_notify('watchbell', 'watches');
    return null;
end $$;

create trigger watches_wake after insert or delete or update of
    name, table_name, handler, payload, key_columns, status_column, since_column, from_state, via_state, to_state,
    error_state, transitions, mode, batch_size, max_running, rate_limit, rate_period, order_by, filter, poll_interval,
    timeout, retry, max_attempts, paused_at
on watchbell.watches for each statement execute function watchbell.watches_wake();

create trigger watches_activity after insert or delete or update of
    name, table_name, handler, payload, key_columns, status_column, since_column, from_state, via_state, to_state,
    error_state, transitions, mode, batch_size, max_running, rate_limit, rate_period, order_by, filter, poll_interval,
    timeout, retry, max_attempts, description, owner, runbook_url, tags, managed_by, paused_at, paused_until, pause_note
on watchbell.watches for each row execute function watchbell.record_change('watch', 'name');

-- As in 0012, with what a worker writes into a watch.
create or replace function watchbell.written_by_people(stored jsonb) returns jsonb
language sql immutable strict set search_path = watchbell, pg_temp
return (
    select jsonb_object_agg(key, case when octet_length(value::text) <= 8192 then value
                                      else to_jsonb(format('(%s bytes)', octet_length(value::text))) end)
    from jsonb_each(stored)
    where key <> all ('{id,kind,status,error,wake_at,next_fire_at,anchor_at,effective_from,last_fire_at,crash_loop_since,tz_mismatch,streak_at,last_started_at,'
                      'last_success_at,last_finished_at,last_duration,last_status,consecutive_failures,fires_count,'
                      'version,declared_version,created_by,created_at,updated_at,sleepers_until,running,'
                      'limited,limit_epoch,full_at,holder,epoch,plan,planned_at}'::text[]));

-- Backstops, for a writer that has the triggers disabled.
alter table watchbell.watches
    add constraint watches_name check (name ~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' and length(name) <= 128),
    add constraint watches_one_form check (num_nonnulls(handler, transitions) = 1),
    add constraint watches_mode check (mode in ('auto', 'transactional', 'leased')),
    add constraint watches_batch_size check (batch_size between 1 and 1000),
    add constraint watches_max_running check (max_running between 1 and 1000000),
    add constraint watches_rate_limit check (rate_limit between 1 and 1000000),
    add constraint watches_rate_period check (rate_period > '0'),
    add constraint watches_poll_interval check (poll_interval between '0.1 s' and '1 day'),
    add constraint watches_timeout check (timeout > '0'),
    add constraint watches_max_attempts check (max_attempts between 1 and 100),
    add constraint watches_status check (status in ('pending', 'normal', 'invalid'));

comment on column watchbell.activity.kind is 'schedule, watch, queue, limit, worker or run.';
comment on column watchbell.activity.what is 'insert, update, delete, or the function: pause, resume, skip_next, run_now, backfill, cancel, cancel_schedule, retry, retry_failed, retry_watch, drain, undrain.';

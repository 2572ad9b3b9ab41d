-- Watches: a step for the handler sql without a statement is refused at once, watch() refuses in few lines and says how
-- to name a watch, and whoever asks about a watch whose table changed is told what is gone.

-- The values of one step, which stand in the watch or in one of its transitions.
create or replace function watchbell.step_refusal(s watchbell.watches) returns watchbell.refusal
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
    elsif s.handler = 'sql' and (jsonb_typeof(s.payload->'statement') is distinct from 'string'
                                 or btrim(s.payload->>'statement', E' \t\r\n') = '') then
        return watchbell.refused('payload', format('the handler sql needs a "statement" in its payload (got %s)',
                case when not s.payload ? 'statement' then 'none'
                     when jsonb_typeof(s.payload->'statement') = 'string' then 'an empty text'
                     else jsonb_typeof(s.payload->'statement') end),
            'Example: {"statement": "insert into done (id) select id from claimed"}.');
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

-- Makes a watch, or the one of this name the same; answers its number. What is not said has its default, as in a new
-- row; a pause stays. The same again changes nothing.
create or replace function watchbell.watch(
    table_name text, handler text default null, name text default null, transitions jsonb default null,
    from_state text default 'pending', via_state text default null, to_state text default 'normal',
    error_state text default 'failed', status_column text default 'status', since_column text default null,
    key_columns text[] default null, payload jsonb default '{}', mode text default 'auto',
    batch_size integer default 100, max_running integer default null, rate_limit integer default null,
    rate_period interval default '1 s', order_by text default null, filter text default null,
    poll_interval interval default '1 s', timeout interval default '1 hour', retry jsonb default null,
    max_attempts integer default 3, description text default null, owner text default null,
    runbook_url text default null, tags text[] default '{}', managed_by text default null
) returns bigint language plpgsql set search_path = watchbell, pg_temp as $$
declare
    relation constant regclass := watchbell.watched_table(table_name);
    named constant text := coalesce(name, (select c.relname from pg_catalog.pg_class c where c.oid = relation), 'x');
    said text;
    advice text;
    about text;
begin
    if name is null and named !~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'watches', column = 'name',
            message = format('watch "%s": this is not a valid name', watchbell.shown(named)),
            hint = format('The table''s name is no name for a watch; give it one: name => %L',
                          coalesce(nullif(btrim(lower(regexp_replace(named, '[^A-Za-z0-9]+', '_', 'g')), '_'), ''), 'mine'));
    end if;
    -- Refused here with the sentence of the row's own check: a cast to smallint would answer first.
    if max_attempts not between 1 and 100 then
        raise exception using errcode = '23514', schema = 'watchbell', table = 'watches', column = 'max_attempts',
            message = format('watch "%s": max_attempts %s is out of range 1-100', watchbell.shown(named), max_attempts),
            hint = '1 means that a failed row is not tried again.';
    end if;
    insert into watchbell.watches as w (name, table_name, handler, payload, key_columns, status_column, since_column,
        from_state, via_state, to_state, error_state, transitions, mode, batch_size, max_running, rate_limit, rate_period,
        order_by, filter, poll_interval, timeout, retry, max_attempts, description, owner, runbook_url, tags, managed_by)
    values (named, watch.table_name, watch.handler, watch.payload, watch.key_columns, watch.status_column,
        watch.since_column, watch.from_state, watch.via_state, watch.to_state, watch.error_state, watch.transitions,
        watch.mode, watch.batch_size, watch.max_running, watch.rate_limit, watch.rate_period, watch.order_by,
        watch.filter, watch.poll_interval, watch.timeout, watch.retry, watch.max_attempts, watch.description,
        watch.owner, watch.runbook_url, watch.tags, watch.managed_by)
    on conflict on constraint watches_name_key do update set
        table_name = excluded.table_name, handler = excluded.handler, payload = excluded.payload,
        key_columns = excluded.key_columns, status_column = excluded.status_column, since_column = excluded.since_column,
        from_state = excluded.from_state, via_state = excluded.via_state, to_state = excluded.to_state,
        error_state = excluded.error_state, transitions = excluded.transitions, mode = excluded.mode,
        batch_size = excluded.batch_size, max_running = excluded.max_running, rate_limit = excluded.rate_limit,
        rate_period = excluded.rate_period, order_by = excluded.order_by, filter = excluded.filter,
        poll_interval = excluded.poll_interval, timeout = excluded.timeout, retry = excluded.retry,
        max_attempts = excluded.max_attempts, description = excluded.description, owner = excluded.owner,
        runbook_url = excluded.runbook_url, tags = excluded.tags, managed_by = excluded.managed_by
    where (w.table_name, w.handler, w.payload, w.key_columns, w.status_column, w.since_column, w.from_state, w.via_state,
           w.to_state, w.error_state, w.transitions, w.mode, w.batch_size, w.max_running, w.rate_limit, w.rate_period,
           w.order_by, w.filter, w.poll_interval, w.timeout, w.retry, w.max_attempts, w.description, w.owner,
           w.runbook_url, w.tags, w.managed_by)
          is distinct from
          (excluded.table_name, excluded.handler, excluded.payload, excluded.key_columns, excluded.status_column,
           excluded.since_column, excluded.from_state, excluded.via_state, excluded.to_state, excluded.error_state,
           excluded.transitions, excluded.mode, excluded.batch_size, excluded.max_running, excluded.rate_limit,
           excluded.rate_period, excluded.order_by, excluded.filter, excluded.poll_interval, excluded.timeout,
           excluded.retry, excluded.max_attempts, excluded.description, excluded.owner, excluded.runbook_url,
           excluded.tags, excluded.managed_by);
    return (select w.id from watchbell.watches w where w.name = named);
exception when check_violation or invalid_parameter_value then
    -- Said again from here, without the lines of context that the statement above would be in psql.
    get stacked diagnostics said = message_text, advice = pg_exception_hint, about = column_name;
    raise exception using errcode = sqlstate, schema = 'watchbell', table = 'watches', column = about,
        message = said, hint = advice;
end $$;

-- The watch of this name, if its table is there.
create or replace function watchbell.watched(name text) returns watchbell.watches
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    wanted constant bigint := watchbell.watch_id(name);
    w watchbell.watches;
    relation regclass;
    problem text;
begin
    select * into w from watchbell.watches x where x.id = wanted;
    relation := watchbell.watched_table(w.table_name);
    problem := case
        when relation is null then format('table %s is gone', w.table_name)
        when watchbell.state_type(relation, w.status_column) is null
            then format('table %s has no column "%s" any more', w.table_name, watchbell.shown(w.status_column))
        when watchbell.watch_key(w, relation) is null then format('table %s has no primary key any more', w.table_name)
    end;
    if problem is not null then
        raise exception using errcode = '55000', schema = 'watchbell', table = 'watches', column = 'table_name',
            message = format('watch "%s": %s', name, problem), hint = 'Its column error says what a worker found.';
    end if;
    return w;
end $$;

comment on column watchbell.watches.status_column is 'Column with the state: text, varchar, char, an enum, smallint, integer or bigint.';
comment on column watchbell.watches.status is 'System: pending (a worker will look at it), normal, or invalid (no row is taken).';
comment on column watchbell.watches.plan is 'System: what was found in the catalog, and the word of a worker about each step: the mode and its reason, the timeout, a missing index.';

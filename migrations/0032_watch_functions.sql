-- Functions about watches, and the view that shows them. Those that steer act as the schema's owner, as those of
-- schedules do. Those that decide what shall be done with people's own tables, or read and write these, run by the
-- rights of whoever calls them.

-- The number of a watch, or one sentence that names the nearest.
create function watchbell.watch_id(name text) returns bigint
language plpgsql stable security definer set search_path = watchbell, pg_temp as $$
declare
    found_id constant bigint := (select w.id from watchbell.watches w where w.name = watch_id.name);
begin
    if found_id is null then
        raise exception using errcode = 'P0002', schema = 'watchbell', table = 'watches', column = 'name',
            message = format('watch %s does not exist', coalesce('"' || watchbell.shown(name) || '"', 'NULL')),
            hint = coalesce(
                (select format('Did you mean "%s"?', n.name)
                 from (select w.name, watchbell.likeness(w.name, watch_id.name) as likeness
                       from watchbell.watches w order by w.id limit 10000) n
                 where n.likeness >= 0.4 order by n.likeness desc, n.name limit 1),
                'List them with: SELECT name FROM watchbell.watch_status;');
    end if;
    return found_id;
end $$;

-- Makes a watch, or the one of this name the same; answers its number. What is not said has its default, as in a new
-- row; a pause stays. The same again changes nothing.
create function watchbell.watch(
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
begin
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
end $$;
comment on function watchbell.watch is 'Makes a watch of a table, or the one of this name the same; answers its number. What is not said has its default.';

create function watchbell.unwatch(name text) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    gone constant bigint := watchbell.watch_id(name);
begin
    delete from watchbell.watches w where w.id = gone;
    return gone;
end $$;
comment on function watchbell.unwatch is 'Deletes a watch; the rows of its table stay as they are. Answers its number.';

-- Whoever deletes a watch, what was remembered of its rows goes with it, but for those in work: they end as if it
-- were there, and are forgotten then. The errors stay for as long as all history.
create function watchbell.watches_gone() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    delete from watchbell.watch_claims c where c.watch_id = old.id and c.claimed_by is null;
    delete from watchbell.worker_batches b where b.watch_id = old.id;
    delete from watchbell.watch_totals t where t.watch_id = old.id;
    delete from watchbell.watch_rates r where r.watch_id = old.id;
    return null;
end $$;
create trigger watches_gone after delete on watchbell.watches
for each row execute function watchbell.watches_gone();

-- Paused again, it keeps the time since when it is paused; note and end are the new ones.
create function watchbell.pause_watch(name text, note text default null, until timestamptz default null) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    paused constant bigint := watchbell.watch_id(name);
    problem constant text := coalesce(watchbell.time_problem('until', until),
        watchbell.length_problem('note', note, 8192),
        case when until <= watchbell.clock() then format('until %s is not in the future', until) end);
begin
    if problem is not null then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'watches',
            column = case when problem like 'note%' then 'pause_note' else 'paused_until' end,
            message = format('watch "%s": %s', name, problem), hint = 'Without until it stays paused.';
    end if;
    update watchbell.watches w
    set paused_at = coalesce(w.paused_at, watchbell.clock()), paused_by = session_user, pause_note = note,
        paused_until = until
    where w.id = paused and (w.paused_at is null or (w.pause_note, w.paused_until) is distinct from (note, until));
    return paused;
end $$;
comment on function watchbell.pause_watch is 'No more rows of a watch are taken, until a time if given; those in work go on. Answers its number.';

create function watchbell.resume_watch(name text) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    resumed constant bigint := watchbell.watch_id(name);
begin
    update watchbell.watches w set paused_at = null where w.id = resumed and w.paused_at is not null;
    return resumed;
end $$;
comment on function watchbell.resume_watch is 'Lets workers take rows of a paused watch again. Answers its number.';

create function watchbell.state_type(relation regclass, status_column text) returns text
language sql stable set search_path = watchbell, pg_temp
return (select format_type(a.atttypid, null) from pg_catalog.pg_attribute a
        where a.attrelid = relation and a.attname = status_column and not a.attisdropped);

-- The watch of this name, if its table is there.
create function watchbell.watched(name text) returns watchbell.watches
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    wanted constant bigint := watchbell.watch_id(name);
    w watchbell.watches;
    relation regclass;
begin
    select * into w from watchbell.watches x where x.id = wanted;
    relation := watchbell.watched_table(w.table_name);
    if watchbell.state_type(relation, w.status_column) is null or watchbell.watch_key(w, relation) is null then
        raise exception using errcode = '55000', schema = 'watchbell', table = 'watches', column = 'table_name',
            message = format('watch "%s": table %s is not there any more as the watch knows it', name, w.table_name),
            hint = 'Its column error says what a worker found.';
    end if;
    return w;
end $$;

-- Rows in an error state go back to the state of the step that failed, as their newest error says, else to that of the
-- first step that ends there; their attempts begin anew. Rows that somebody has locked are left out.
create function watchbell.retry_watch(name text, key text[] default null, max integer default 1000) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w constant watchbell.watches := watchbell.watched(name);
    relation constant regclass := watchbell.watched_table(w.table_name);
    kind constant text := watchbell.state_type(relation, w.status_column);
    keys constant text[] := watchbell.watch_key(w, relation);
    ended record;
    moved bigint;
    total bigint := 0;
begin
    if max is null or max not between 1 and 100000 then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'watches', column = 'name',
            message = format('max %s is out of range 1-100000', coalesce(max::text, 'NULL')), hint = 'The default is 1000.';
    end if;
    if key is not null and cardinality(key) <> cardinality(keys) then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'watches', column = 'key_columns',
            message = format('key %s is not of %s columns', key, cardinality(keys)),
            hint = format('A key is a list of %s.', array_to_string(keys, ', '));
    end if;
    for ended in
        select s.error_state as state, array_agg(s.from_state order by s.ordinality) as steps
        from watchbell.watch_steps(w) with ordinality s group by s.error_state order by min(s.ordinality)
    loop
        exit when total >= max;
        execute format(
            $statement$
            with failed as materialized (
                select %1$s, array[%2$s]::text[] as key from %3$s t
                where t.%4$I = %5$L::%6$s and %7$s limit $1 for no key update skip locked
            ), aimed as materialized (
                select f.*, coalesce((select e.step from watchbell.watch_errors e
                                      where e.watch_id = $2 and e.key = f.key and e.step = any ($3)
                                      order by e.at desc limit 1), $3[1]) as step
                from failed f
            ), moved as (
                update %3$s t set %4$I = a.step::%6$s %8$s from aimed a
                where %9$s and t.%4$I = %5$L::%6$s returning a.key
            ), forgotten as (
                delete from watchbell.watch_claims c using moved m where c.watch_id = $2 and c.key = m.key
            )
            select count(*) from moved
            $statement$,
            (select string_agg(format('t.%I as k%s', k, n), ', ' order by n) from unnest(keys) with ordinality x (k, n)),
            (select string_agg(format('t.%I::text', k), ', ' order by n) from unnest(keys) with ordinality x (k, n)),
            watchbell.table_text(relation), w.status_column, ended.state, kind,
            coalesce((select string_agg(format('t.%I = %L::%s', x.k, key[x.n], format_type(a.atttypid, a.atttypmod)), ' and ')
                      from unnest(keys) with ordinality x (k, n)
                      join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = x.k
                      where key is not null), 'true'),
            case when w.since_column is not null then format(', %I = clock_timestamp()', w.since_column) end,
            (select string_agg(format('t.%I = a.k%s', k, n), ' and ' order by n) from unnest(keys) with ordinality x (k, n))
        ) into moved using max - total, w.id, ended.steps;
        total := total + moved;
    end loop;
    if total > 0 then
        if has_table_privilege('watchbell.activity', 'insert') then
            perform watchbell.note_change('retry_watch', 'watch', w.name, w.id, null,
                jsonb_strip_nulls(jsonb_build_object('rows', total, 'key', key)));
        end if;
        perform pg_notify('watchbell', 'watches');
    end if;
    return total;
end $$;
comment on function watchbell.retry_watch is 'Puts rows of a watch that failed back to the step that failed, all or the one of this key; answers how many.';

-- How many rows stand in each state of a watch, in the order of its steps: at most `cap` of each are counted. Without
-- an index that leads to them rare rows of a large table would have to be looked for in all of it: that is not done.
create function watchbell.watch_counts(name text, cap integer default 10000)
returns table (state text, role text, rows bigint, capped boolean, oldest timestamptz)
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w constant watchbell.watches := watchbell.watched(name);
    relation constant regclass := watchbell.watched_table(w.table_name);
    kind constant text := watchbell.state_type(relation, w.status_column);
    large boolean;
    common text;
begin
    if cap is null or cap not between 1 and 10000000 then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'watches', column = 'name',
            message = format('cap %s is out of range 1-10000000', coalesce(cap::text, 'NULL')), hint = 'The default is 10000.';
    end if;
    select sum(c.reltuples) > 1000000 into large from pg_catalog.pg_class c
    where c.oid in (select t.relid from pg_catalog.pg_partition_tree(relation) t where t.isleaf union all select relation)
      and c.relkind = 'r';
    select s.most_common_vals::text into common
    from pg_catalog.pg_stats s
    where format('%I.%I', s.schemaname, s.tablename) = watchbell.table_text(relation) and s.attname = w.status_column;
    for state, role in
        select p.state, case when bool_or(p.role = 1) then 'waiting' when bool_or(p.role = 2) then 'working'
                             when bool_or(p.role = 4) then 'failed' else 'done' end
        from watchbell.watch_steps(w) with ordinality s,
             lateral (values (s.from_state, 1), (s.via_state, 2), (s.to_state, 3), (s.error_state, 4)) p (state, role)
        where p.state is not null
        group by p.state
        order by bool_or(p.role = 4) and not bool_or(p.role in (1, 2, 3)), min(s.ordinality * 10 + p.role)
    loop
        rows := null;
        capped := true;
        oldest := null;
        if not coalesce(large, false) or watchbell.has_state_index(relation, w.status_column, state)
           or strpos(common, state) > 0 then
            execute format('select count(*), min(c.since) from (select %s as since from %s t where t.%I = %L::%s limit %s) c',
                coalesce('t.' || quote_ident(w.since_column), 'null::timestamptz'), watchbell.table_text(relation),
                w.status_column, state, kind, cap::bigint + 1)
            into rows, oldest;
            capped := rows > cap;
            rows := least(rows, cap);
        end if;
        return next;
    end loop;
end $$;
comment on function watchbell.watch_counts is 'How many rows stand in each state of a watch and since when the oldest; NULL where counting would read a large table.';

-- What a worker would take of each step, without taking it: the first rows in its order, how PostgreSQL would find
-- them, and what is missing. `keys` is NULL where looking would read a large table.
create function watchbell.test_watch(name text, sample integer default 5)
returns table (from_state text, via_state text, to_state text, error_state text, handler text, mode text, reason text,
               keys jsonb, by_index boolean, explained text, missing_index text)
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w constant watchbell.watches := watchbell.watched(name);
    relation constant regclass := watchbell.watched_table(w.table_name);
    path constant text := (select s.reset_val from pg_catalog.pg_settings s where s.name = 'search_path');
    s watchbell.watches;
    key constant text := (select string_agg(format('t.%I::text', k), ', ' order by n)
                          from unnest(watchbell.watch_key(w, relation)) with ordinality x (k, n));
    statement text;
    line text;
begin
    if sample is null or sample not between 0 and 1000 then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'watches', column = 'name',
            message = format('sample %s is out of range 0-1000', coalesce(sample::text, 'NULL')), hint = 'The default is 5.';
    end if;
    for s in select * from watchbell.watch_steps(w) loop
        from_state := s.from_state;
        via_state := s.via_state;
        to_state := s.to_state;
        error_state := s.error_state;
        handler := s.handler;
        select p->>'mode', p->>'reason' into mode, reason
        from jsonb_array_elements(coalesce(w.plan->'steps', '[]')) p where p->>'from' = s.from_state limit 1;
        mode := coalesce(mode, nullif(s.mode, 'auto'));
        reason := coalesce(reason, 'no worker has looked at it yet');
        select a.statement into missing_index from watchbell.watch_advice(w) a where a.state = s.from_state limit 1;
        statement := format(
            'select array[%1$s] as key from %2$s t where t.%3$I = %4$L::%5$s%6$s and not exists (select from '
            'watchbell.watch_claims c where c.watch_id = %7$s and c.key = array[%1$s]::text[] '
            'and (c.claimed_by is not null or c.due_at > clock_timestamp())) order by %8$s limit ',
            key, watchbell.table_text(relation), w.status_column, s.from_state,
            watchbell.state_type(relation, w.status_column), ' and (' || s.filter || ')', w.id,
            (select string_agg(l.part, ', ' order by l.part_of, l.n)
             from (select 1 as part_of, o.n, format('t.%I %s', o.name, o.direction) as part
                   from watchbell.ordered_columns(s.order_by) with ordinality o (name, direction, rest, n)
                   union all
                   select 2, k.n, format('t.%I', k.name)
                   from unnest(watchbell.watch_key(w, relation)) with ordinality k (name, n)
                   where k.name not in (select x.name from watchbell.ordered_columns(s.order_by) x)) l));
        explained := null;
        keys := null;
        -- The condition sees the login's own search_path, as it will in a worker.
        perform set_config('search_path', path, true);
        for line in execute 'explain (costs off) ' || statement || s.batch_size loop
            explained := concat_ws(e'\n', explained, line);
        end loop;
        -- A walk along the primary key with a filter reads the table too.
        by_index := missing_index is null and strpos(explained, 'Seq Scan on ') = 0;
        if missing_index is null or (select c.reltuples < 1000000 from pg_catalog.pg_class c where c.oid = relation) then
            execute format('select coalesce(jsonb_agg(to_jsonb(x.key)), ''[]'') from (%s%s) x', statement, sample) into keys;
        end if;
        perform set_config('search_path', 'watchbell, pg_temp', true);
        return next;
    end loop;
end $$;
comment on function watchbell.test_watch is 'What a worker would take of each step of a watch, without taking it, how it would be found, and the missing index.';

-- A hint for workers that sleep: with it they look at once, without it at their next poll. As in 0009: nothing is sent
-- while nobody sleeps, and one session of each stripe sends at a time.
create function watchbell.watch_changed() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if exists (select from watchbell.queues q where q.sleepers_until > clock_timestamp()) then
        if pg_try_advisory_xact_lock(x'7763'::integer, pg_backend_pid() % 8) then
            perform pg_notify('watchbell', 'watches');
        end if;
    end if;
    return null;
end $$;
comment on function watchbell.watch_changed is 'Trigger function for watched tables, made by wake_watch: tells sleeping workers of new rows.';

-- One trigger for each table and status column, whichever watches share them.
create function watchbell.wake_trigger(status_column text) returns text
language sql immutable set search_path = watchbell, pg_temp
return left('watchbell_' || status_column, 63);

create function watchbell.wake_watch(name text) returns boolean
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w constant watchbell.watches := watchbell.watched(name);
    relation constant regclass := watchbell.watched_table(w.table_name);
    statement constant text := format('create trigger %I after insert or update of %I on %s for each statement '
                        'execute function watchbell.watch_changed()',
        watchbell.wake_trigger(w.status_column), w.status_column, watchbell.table_text(relation));
begin
    if exists (select from pg_catalog.pg_trigger t
               where t.tgrelid = relation and t.tgname = watchbell.wake_trigger(w.status_column)) then
        return false;
    elsif not (select pg_has_role(c.relowner, 'usage') from pg_catalog.pg_class c where c.oid = relation) then
        raise exception using errcode = '42501', schema = 'watchbell', table = 'watches', column = 'table_name',
            message = format('watch "%s": only the owner of %s may give it a trigger', w.name, watchbell.table_text(relation)),
            hint = statement || ';';
    end if;
    execute statement;
    return true;
end $$;
comment on function watchbell.wake_watch is 'Gives the table of a watch a trigger by which sleeping workers learn of new rows at once; false if it has it.';

create function watchbell.unwake_watch(name text) returns boolean
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w constant watchbell.watches := watchbell.watched(name);
    relation constant regclass := watchbell.watched_table(w.table_name);
begin
    if not exists (select from pg_catalog.pg_trigger t
                   where t.tgrelid = relation and t.tgname = watchbell.wake_trigger(w.status_column)) then
        return false;
    elsif not (select pg_has_role(c.relowner, 'usage') from pg_catalog.pg_class c where c.oid = relation) then
        raise exception using errcode = '42501', schema = 'watchbell', table = 'watches', column = 'table_name',
            message = format('watch "%s": only the owner of %s may take its trigger', w.name, watchbell.table_text(relation)),
            hint = format('drop trigger %I on %s;', watchbell.wake_trigger(w.status_column), watchbell.table_text(relation));
    end if;
    execute format('drop trigger %I on %s', watchbell.wake_trigger(w.status_column), watchbell.table_text(relation));
    return true;
end $$;
comment on function watchbell.unwake_watch is 'Takes the trigger of wake_watch from the table of a watch; false if it has none.';

revoke execute on function watchbell.watch_id, watchbell.pause_watch, watchbell.resume_watch from public;

-- Claims of a watch are counted to 10,000.
create view watchbell.watch_status as
select w.name, w.table_name, w.status, w.error,
       array(select s->>'mode' from jsonb_array_elements(coalesce(w.plan->'steps', '[]')) s
             where s->>'mode' is not null group by 1 order by 1) as modes,
       case when w.transitions is null then array[w.handler]
            else array(select t->>'handler' from jsonb_array_elements(w.transitions) with ordinality x (t, n)
                       group by 1 order by min(x.n)) end as handlers,
       jsonb_array_length(coalesce(w.transitions, '[null]')) as steps,
       c.in_work, c.waiting, c.n > 10000 as capped,
       coalesce(t.done, 0) as done, coalesce(t.failed, 0) as failed, coalesce(t.retried, 0) as retried,
       coalesce(t.changed, 0) as changed, t.last_at,
       w.paused_at, w.paused_by, case when isfinite(w.paused_until) then w.paused_until end as paused_until, w.pause_note,
       w.planned_at
from watchbell.watches w
cross join lateral (
    select count(*) as n, count(x.claimed_by) as in_work, count(*) - count(x.claimed_by) as waiting
    from (select c.claimed_by from watchbell.watch_claims c where c.watch_id = w.id limit 10001) x) c
left join lateral (
    select sum(t.done)::bigint as done, sum(t.failed)::bigint as failed, sum(t.retried)::bigint as retried,
           sum(t.changed)::bigint as changed, max(t.last_at) as last_at
    from watchbell.watch_totals t where t.watch_id = w.id) t on true;

comment on view watchbell.watch_status is 'Each watch: how it works, what is in work, and what became of its rows so far.';
comment on column watchbell.watch_status.name is 'Its name.';
comment on column watchbell.watch_status.table_name is 'The watched table.';
comment on column watchbell.watch_status.status is 'pending (a worker will look at it), normal, or invalid.';
comment on column watchbell.watch_status.error is 'Why it is invalid.';
comment on column watchbell.watch_status.modes is 'How its steps work: transactional, leased; empty before a worker has looked at it.';
comment on column watchbell.watch_status.handlers is 'What does the work, in the order of the steps.';
comment on column watchbell.watch_status.steps is 'How many steps it has.';
comment on column watchbell.watch_status.in_work is 'Rows that a worker has under a lease. Those inside a transaction are seen by nobody.';
comment on column watchbell.watch_status.waiting is 'Rows that wait for another attempt, or keep data between two.';
comment on column watchbell.watch_status.capped is 'There are more than 10,000 of both together, of which only so many were counted.';
comment on column watchbell.watch_status.done is 'Rows moved on so far; a row of three steps counts three times.';
comment on column watchbell.watch_status.failed is 'Rows given up so far.';
comment on column watchbell.watch_status.retried is 'Attempts that failed and were to be repeated.';
comment on column watchbell.watch_status.changed is 'Rows that somebody else moved or deleted meanwhile, which were left as they were.';
comment on column watchbell.watch_status.last_at is 'When the last of these happened.';
comment on column watchbell.watch_status.paused_at is 'Since when no row is taken.';
comment on column watchbell.watch_status.paused_by is 'Who paused it.';
comment on column watchbell.watch_status.paused_until is 'When it resumes by itself.';
comment on column watchbell.watch_status.pause_note is 'Why it is paused.';
comment on column watchbell.watch_status.planned_at is 'When a worker looked at its table last.';

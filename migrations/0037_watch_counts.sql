-- Rows of watched tables are counted as workers take them: those that a step's filter leaves out do not wait. What
-- cannot be counted says why, and one watch's fault is told as that watch's.

-- A row that fails again and again goes through `via` and comes back each time, which its since_column takes for news.
alter table watchbell.watch_claims add column began_at timestamptz not null default now();
comment on column watchbell.watch_claims.began_at is 'When the row was first tried at this step.';

-- Whether a statement over one table reads nothing but rows that it answers with: by an index, without a condition
-- that is looked at row by row, so that a LIMIT bounds it.
create function watchbell.is_by_index(statement text) returns boolean
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    path constant text := (select s.reset_val from pg_catalog.pg_settings s where s.name = 'search_path');
    plan json;
begin
    perform set_config('search_path', path, true);
    execute 'explain (format json, costs off) ' || statement into plan;
    return not jsonb_path_exists(plan::jsonb, 'strict $.** ? (exists(@."Node Type") && (exists(@."Filter")
        || !(@."Node Type" like_regex "^(Limit|Append|Index Scan|Index Only Scan)$")))');
end $$;

-- A row's key as `watch_claims` has it, over an alias of its table: the same text in every session.
create function watchbell.claim_key(w watchbell.watches, relation regclass, alias text) returns text
language sql stable set search_path = watchbell, pg_temp
return (
    select format('array[%s]', string_agg(case
               when a.atttypid = 'timestamptz'::regtype then format(
                   '(case when isfinite(%1$s) then (to_jsonb(%1$s at time zone ''UTC'') #>> ''{}'') || ''Z'' '
                   'else %1$s::text end) collate "C"', c.name)
               when a.atttypid in ('timestamp'::regtype, 'date'::regtype) then
                   format('(to_jsonb(%s) #>> ''{}'') collate "C"', c.name)
               else format('%s::text collate "C"', c.name) end, ', ' order by k.n))
    from unnest(watchbell.watch_key(w, relation)) with ordinality k (name, n)
    join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = k.name
    cross join lateral (select format('%s.%I', alias, k.name) as name) c);

-- That no worker has a row under a lease: for any watch of the table, one that is gone included, whose rows in work
-- end as if it were there.
create function watchbell.unclaimed(w watchbell.watches, relation regclass, alias text) returns text
language sql stable set search_path = watchbell, pg_temp
return coalesce((
    select string_agg(format('not exists (select from watchbell.watch_claims watchbell_claim '
               'where watchbell_claim.watch_id = any (%L::bigint[]) and watchbell_claim.key = %s '
               'and watchbell_claim.claimed_by is not null)', x.ids, x.key), ' and ')
    from (select y.key, array_agg(y.id) as ids
          from (select watchbell.claim_key(o, relation, alias) as key, o.id
                from watchbell.watches o where o.table_name = w.table_name
                union all
                select watchbell.claim_key(w, relation, alias), g.id
                from (select distinct c.watch_id as id from watchbell.watch_claims c
                      where c.claimed_by is not null
                        and not exists (select from watchbell.watches o where o.id = c.watch_id)) g) y
          where y.key is not null group by y.key) x), 'true');

-- Counts rows of one state up to `cap`, of which those that a filter leaves out are counted apart: then the first ten
-- times `cap` rows of the state are looked at, unless an index holds just those that the filter lets through. Without
-- an index that leads to them, rows of a large table are not looked for, and `problem` says so. So does a filter that
-- fails.
create function watchbell.count_rows(
    w watchbell.watches, state text, filter text, cap bigint, free_only boolean,
    out rows bigint, out capped boolean, out oldest timestamptz, out left_out bigint, out left_capped boolean,
    out problem text
) language plpgsql set search_path = watchbell, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set max_parallel_workers_per_gather = 0 set jit = off as $$
declare
    path constant text := (select s.reset_val from pg_catalog.pg_settings s where s.name = 'search_path');
    relation constant regclass := watchbell.watched_table(w.table_name);
    -- As workers call it: a filter may name it.
    alias constant text := (select quote_ident(c.relname) from pg_catalog.pg_class c where c.oid = relation);
    since constant text := coalesce(alias || '.' || quote_ident(w.since_column), 'null::timestamptz');
    standing constant text := format('%s as %s where %s.%I = %L::%s', watchbell.table_text(relation), alias, alias,
        w.status_column, state, watchbell.state_type(relation, w.status_column));
    free constant text := case when free_only then ' and ' || watchbell.unclaimed(w, relation, alias) else '' end;
    size double precision;
    seen bigint;
begin
    capped := true;
    if filter is not null and watchbell.is_by_index(
            format(e'select from %s and (%s\n) limit %s', standing, filter, cap + 1)) then
        perform set_config('search_path', path, true);
        execute format(e'select count(*), min(c.since) from (select %s as since from %s and (%s\n)%s limit %s) c',
            since, standing, filter, free, cap + 1) into rows, oldest;
        capped := rows > cap;
        rows := least(rows, cap);
        return;
    end if;
    if not watchbell.is_by_index(format('select from %s limit 1', standing)) then
        select sum(greatest(c.reltuples, 0)) into size from pg_catalog.pg_class c
        where c.oid in (select t.relid from pg_catalog.pg_partition_tree(relation) t where t.isleaf union all select relation)
          and c.relkind = 'r';
        -- What is common is soon found: at most a million rows are read.
        if size > 1000000 and not exists (
                select from pg_catalog.pg_stats s,
                            unnest(s.most_common_vals::text::text[], s.most_common_freqs) m (value, freq)
                where format('%I.%I', s.schemaname, s.tablename) = watchbell.table_text(relation)
                  and s.attname = w.status_column and m.value = state
                  and m.freq >= case when filter is null then 0.01 else 0.1 end) then
            problem := format('no index leads to them, and the table has about %s rows', size::bigint);
            return;
        end if;
        perform set_config('enable_seqscan', 'on', true), set_config('enable_bitmapscan', 'on', true);
    end if;
    perform set_config('search_path', path, true);
    execute format('select count(*) filter (where c.meets), min(c.since) filter (where c.meets), count(*) '
                   'from (select %s as since, %s as meets from %s%s limit %s) c',
        since, coalesce('(' || filter || e'\n) is true', 'true'), standing, free,
        case when filter is null then cap else 10 * cap end + 1) into rows, oldest, seen;
    if filter is not null then
        left_out := least(seen - rows, cap);
        left_capped := seen > 10 * cap or seen - rows > cap;
    end if;
    capped := rows > cap or (filter is not null and seen > 10 * cap);
    rows := least(rows, cap);
exception when others then
    -- A login that may not read the table, a lock, a server that stops: not the filter's fault.
    if filter is null or left(sqlstate, 2) in ('25', '40', '53', '54', '55', '57', '58')
       or sqlstate = '42501' and not has_table_privilege(relation, 'select') then
        raise;
    end if;
    rows := null;
    capped := true;
    oldest := null;
    problem := 'its filter fails: ' || sqlerrm;
end $$;

-- How many rows stand in each state of a watch, in the order of its steps. Those that wait are those that a step
-- takes; what its filter leaves out is a row of its own.
drop function watchbell.watch_counts(text, integer);
create function watchbell.watch_counts(name text, cap integer default 10000)
returns table (state text, role text, rows bigint, capped boolean, oldest timestamptz, problem text)
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w constant watchbell.watches := watchbell.watched(name);
    s record;
    c record;
begin
    if cap is null or cap not between 1 and 10000000 then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'watches', column = 'name',
            message = format('cap %s is out of range 1-10000000', coalesce(cap::text, 'NULL')), hint = 'The default is 10000.';
    end if;
    for s in
        select p.state, case when bool_or(p.role = 1) then 'waiting' when bool_or(p.role = 2) then 'working'
                             when bool_or(p.role = 4) then 'failed' else 'done' end as role,
               max(x.filter) filter (where p.role = 1) as filter
        from watchbell.watch_steps(w) with ordinality x,
             lateral (values (x.from_state, 1), (x.via_state, 2), (x.to_state, 3), (x.error_state, 4)) p (state, role)
        where p.state is not null
        group by p.state
        order by bool_or(p.role = 4) and not bool_or(p.role in (1, 2, 3)), min(x.ordinality * 10 + p.role)
    loop
        select * into c from watchbell.count_rows(w, s.state, s.filter, cap, false);
        if s.role = 'waiting' and c.rows > 0 then
            select least(c.oldest, min(f.began_at)) into c.oldest
            from (select k.began_at from watchbell.watch_claims k
                  where k.watch_id = w.id and k.step = s.state and k.claimed_by is null and k.error is not null
                  limit cap) f;
        end if;
        return query select s.state, s.role, c.rows, c.capped, c.oldest, c.problem;
        if c.left_out is not null then
            return query select s.state, 'left_out', c.left_out, c.left_capped, null::timestamptz, null;
        end if;
    end loop;
end $$;

create function watchbell.try_watch_counts(name text, cap integer)
returns table (state text, role text, rows bigint, capped boolean, oldest timestamptz, problem text)
language plpgsql set search_path = watchbell, pg_temp as $$
begin
    return query select * from watchbell.watch_counts(name, cap);
exception when others then
    return query select null, null, null::bigint, true, null::timestamptz, sqlerrm;
end $$;

-- By the rights of whoever reads it: what he may not read is told as a problem of that watch.
create view watchbell.watch_states as
select w.name as watch, w.table_name, w.paused_at is not null as paused, c.state, c.role, c.rows, c.capped,
       case when isfinite(c.oldest) then c.oldest end as oldest, c.problem
from watchbell.watches w
cross join lateral watchbell.try_watch_counts(w.name, 10000) c;

-- As in 0031, with the table under its own name, as workers call it: so a filter with a subquery can say which column
-- is whose.
create or replace function watchbell.filter_refusal(filter text, relation regclass) returns text
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    trial constant text := format(e'select 1 from %s as %s where (%s\n) limit 0', watchbell.table_text(relation),
        (select quote_ident(c.relname) from pg_catalog.pg_class c where c.oid = relation), filter);
begin
    if filter is not null then
        perform set_config('search_path', s.reset_val, true) from pg_catalog.pg_settings s where s.name = 'search_path';
        execute trial;
    end if;
    return null;
exception when syntax_error_or_access_rule_violation or data_exception or feature_not_supported then
    return sqlerrm;
end $$;

-- As in 0032, with keys that are the same text in every session, or what is known of a row would not be found.
create or replace function watchbell.retry_watch(name text, key text[] default null, max integer default 1000) returns bigint
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
                select %1$s, %2$s as key from %3$s t
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
            watchbell.claim_key(w, relation, 't'),
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

-- As in 0032, with the table under its own name, and such keys.
create or replace function watchbell.test_watch(name text, sample integer default 5)
returns table (from_state text, via_state text, to_state text, error_state text, handler text, mode text, reason text,
               keys jsonb, by_index boolean, explained text, missing_index text)
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w constant watchbell.watches := watchbell.watched(name);
    relation constant regclass := watchbell.watched_table(w.table_name);
    path constant text := (select s.reset_val from pg_catalog.pg_settings s where s.name = 'search_path');
    s watchbell.watches;
    alias constant text := (select quote_ident(c.relname) from pg_catalog.pg_class c where c.oid = relation);
    key constant text := watchbell.claim_key(w, relation, alias);
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
            'select %1$s as key from %2$s as %9$s where %9$s.%3$I = %4$L::%5$s%6$s and not exists (select from '
            'watchbell.watch_claims watchbell_claim where watchbell_claim.watch_id = %7$s and watchbell_claim.key = %1$s '
            'and (watchbell_claim.claimed_by is not null or watchbell_claim.due_at > clock_timestamp())) '
            'order by %8$s limit ',
            key, watchbell.table_text(relation), w.status_column, s.from_state,
            watchbell.state_type(relation, w.status_column), e' and (' || s.filter || e'\n)', w.id,
            (select string_agg(l.part, ', ' order by l.part_of, l.n)
             from (select 1 as part_of, o.n, format('%s.%I %s', alias, o.name, o.direction) as part
                   from watchbell.ordered_columns(s.order_by) with ordinality o (name, direction, rest, n)
                   union all
                   select 2, k.n, format('%s.%I', alias, k.name)
                   from unnest(watchbell.watch_key(w, relation)) with ordinality k (name, n)
                   where k.name not in (select x.name from watchbell.ordered_columns(s.order_by) x)) l), alias);
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

comment on function watchbell.watch_counts is 'How many rows stand in each state of a watch and since when the oldest; NULL, with the reason, where they cannot be counted.';
comment on view watchbell.watch_states is 'The rows of each watch by state, as far as the reader may read its table: at most 10,000 of each state are counted.';
comment on column watchbell.watch_states.watch is 'Its name.';
comment on column watchbell.watch_states.table_name is 'The watched table.';
comment on column watchbell.watch_states.paused is 'Whether no row is taken.';
comment on column watchbell.watch_states.state is 'The state; NULL where nothing of the watch can be read.';
comment on column watchbell.watch_states.role is 'waiting (a step takes them), left_out (its filter does not let them through), working, done or failed.';
comment on column watchbell.watch_states.rows is 'How many; NULL where they cannot be counted.';
comment on column watchbell.watch_states.capped is 'There may be more.';
comment on column watchbell.watch_states.oldest is 'Since when the oldest of those counted stands there, if the watch has a since_column; of those that wait, also since when one that failed is tried.';
comment on column watchbell.watch_states.problem is 'Why they were not counted.';

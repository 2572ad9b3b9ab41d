-- A state whose label was renamed (ALTER TYPE ... RENAME VALUE) is no value of its column any more, and the cast to its
-- type fails. No state of that watch was counted then, its look for what is wrong failed each minute, and release_rows
-- failed for ever, even after the watch had been given the new name: the old one is remembered while rows may stand there.

create function watchbell.is_value(value text, kind text) returns boolean
language plpgsql stable set search_path = watchbell, pg_temp as $$
begin
    if kind is not null then
        execute format('select %L::%s', value, kind);
    end if;
    return true;
exception when data_exception then
    return false;
end $$;
comment on function watchbell.is_value is 'Whether the text is a value of the type: a label of an enum, a number in its bounds.';

-- As in 0037, but no row stands at what is no value.
create or replace function watchbell.count_rows(
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
    kind constant text := watchbell.state_type(relation, w.status_column);
    standing constant text := format('%s as %s where %s.%I = %L::%s', watchbell.table_text(relation), alias, alias,
        w.status_column, state, kind);
    free constant text := case when free_only then ' and ' || watchbell.unclaimed(w, relation, alias) else '' end;
    size double precision;
    seen bigint;
begin
    if not watchbell.is_value(state, kind) then
        rows := 0;
        capped := false;
        problem := format('"%s" is no value of column "%s"', state, w.status_column);
        return;
    end if;
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

-- As in 0038, and the same.
create or replace function watchbell.release_rows(name text, key text[] default null, max integer default 1000) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w constant watchbell.watches := watchbell.watched(name);
    relation constant regclass := watchbell.watched_table(w.table_name);
    kind constant text := watchbell.state_type(relation, w.status_column);
    keys constant text[] := watchbell.watch_key(w, relation);
    stuck record;
    locked jsonb;
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
    for stuck in
        select x.via_state as via, min(x.from_state) as step
        from watchbell.watch_steps(w) x where x.via_state is not null group by x.via_state
        union all
        select f.state, f.step from watchbell.watch_faults f
        where f.watch_id = w.id and f.kind = 'stuck'
          and not exists (select from watchbell.watch_steps(w) x where x.via_state = f.state)
    loop
        exit when total >= max;
        continue when not watchbell.is_value(stuck.via, kind);
        execute format(
            'select jsonb_agg(x.key) from (select to_jsonb(%s) as key from %s t where t.%I = %L::%s and %s and %s '
            'limit $1 for no key update skip locked) x',
            watchbell.claim_key(w, relation, 't'), watchbell.table_text(relation), w.status_column, stuck.via, kind,
            coalesce((select string_agg(format('t.%I = %L::%s', x.k, key[x.n], format_type(a.atttypid, a.atttypmod)), ' and ')
                      from unnest(keys) with ordinality x (k, n)
                      join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = x.k
                      where key is not null), 'true'),
            watchbell.unclaimed(w, relation, 't')
        ) into locked using max - total;
        continue when locked is null;
        execute format(
            'update %1$s t set %2$I = %3$L::%4$s%5$s from jsonb_array_elements($1) a (key) '
            'where %6$s and t.%2$I = %7$L::%4$s and %8$s',
            watchbell.table_text(relation), w.status_column, stuck.step, kind,
            case when w.since_column is not null then format(', %I = clock_timestamp()', w.since_column) end,
            (select string_agg(format('t.%I = (a.key->>%s)::%s', x.k, x.n - 1, format_type(a.atttypid, a.atttypmod)), ' and ')
             from unnest(keys) with ordinality x (k, n)
             join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = x.k),
            stuck.via, watchbell.unclaimed(w, relation, 't')
        ) using locked;
        get diagnostics moved = row_count;
        total := total + moved;
    end loop;
    if total > 0 then
        if has_table_privilege('watchbell.activity', 'insert') then
            perform watchbell.note_change('release_rows', 'watch', w.name, w.id, null,
                jsonb_strip_nulls(jsonb_build_object('rows', total, 'key', key)));
        end if;
        if has_table_privilege('watchbell.watch_faults', 'insert') then
            perform watchbell.find_watch_faults(w.id);
        end if;
        perform pg_notify('watchbell', 'watches');
    end if;
    return total;
end $$;

-- What a watch says of its table is held against the catalog when it is written: the table, its key, the column
-- with the state and every state in it, the condition. What is missing is answered with the statement that makes
-- it. A worker looks again before it takes rows, for tables change.

create function watchbell.table_text(relation regclass) returns text
language sql stable strict set search_path = watchbell, pg_temp
return (select format('%I.%I', n.nspname, c.relname)
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = relation);

-- The type below a domain.
create function watchbell.base_type(type oid) returns oid
language sql stable strict set search_path = watchbell, pg_temp
begin atomic
    with recursive down (oid) as (
        select type
        union all
        select t.typbasetype from down d join pg_catalog.pg_type t on t.oid = d.oid where t.typtype = 'd'
    )
    select d.oid from down d join pg_catalog.pg_type t on t.oid = d.oid where t.typtype <> 'd';
end;

-- Why a column of this type cannot have this state.
create function watchbell.state_problem(type oid, typmod integer, state text) returns text
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    base constant oid := watchbell.base_type(type);
    least bigint := 0;
begin
    if state is null or state = '' then
        return 'a state is missing';
    elsif octet_length(state) > 256 then
        return format('state "%s" is %s bytes, more than the limit of 256', watchbell.shown(state), octet_length(state));
    elsif exists (select from pg_catalog.pg_type t where t.oid = base and t.typtype = 'e') then
        if not exists (select from pg_catalog.pg_enum e where e.enumtypid = base and e.enumlabel = state) then
            return format('type %s has no value "%s" (it has: %s)', format_type(base, null), watchbell.shown(state),
                (select string_agg(e.enumlabel, ', ' order by e.enumsortorder)
                 from (select * from pg_catalog.pg_enum x where x.enumtypid = base order by x.enumsortorder limit 20) e));
        end if;
    elsif base in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) then
        least := case base when 'smallint'::regtype then -32768 when 'integer'::regtype then -2147483648
                           else -9223372036854775808 end;
        -- As PostgreSQL writes it, since states are compared as text too.
        if state !~ '^(0|-?[1-9][0-9]{0,18})$' or state::numeric not between least and -least::numeric - 1 then
            return format('state "%s" is no %s', watchbell.shown(state), format_type(base, null));
        end if;
    elsif typmod > 4 and length(state) > typmod - 4 then
        return format('state "%s" is longer than %s', watchbell.shown(state), format_type(type, typmod));
    end if;
    return null;
end $$;

-- The columns that name a row: those given, else the primary key.
create function watchbell.watch_key(w watchbell.watches, relation regclass) returns text[]
language sql stable set search_path = watchbell, pg_temp
return coalesce(w.key_columns, (
    select array_agg(a.attname::text order by k.n)
    from pg_catalog.pg_index i cross join lateral unnest(i.indkey::smallint[]) with ordinality k (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = relation and i.indisprimary and k.n <= i.indnkeyatts));

-- Whether an index leads to the rows in a state: a partial one that names it, or one that begins with the column.
create function watchbell.has_state_index(relation regclass, status_column text, state text) returns boolean
language sql stable set search_path = watchbell, pg_temp
return exists (
    select from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attname = status_column
    where i.indrelid = relation and i.indisvalid
      and (i.indpred is null and i.indkey[0] = a.attnum
           or strpos(pg_get_expr(i.indpred, i.indrelid), quote_ident(status_column)) > 0
              and (strpos(pg_get_expr(i.indpred, i.indrelid), quote_literal(state)) > 0
                   or state ~ '^-?[0-9]+$' and pg_get_expr(i.indpred, i.indrelid) ~ ('[^0-9]' || state || '([^0-9]|$)'))));

-- For each step whose rows no index leads to: its state, and the statement that makes one.
create function watchbell.watch_advice(w watchbell.watches) returns table (state text, statement text)
language sql stable set search_path = watchbell, pg_temp
begin atomic
    select s.from_state,
           format('CREATE INDEX %sON %s (%s) WHERE %I = %s;',
               case c.relkind when 'r' then 'CONCURRENTLY ' end, watchbell.table_text(c.oid),
               (select string_agg(l.part, ', ' order by l.part_of, l.n)
                from (select 1 as part_of, o.n, format('%I%s', o.name, case o.direction when 'desc' then ' desc' end) as part
                      from watchbell.ordered_columns(s.order_by) with ordinality o (name, direction, rest, n)
                      union all
                      select 2, k.n, format('%I', k.name)
                      from unnest(watchbell.watch_key(w, c.oid)) with ordinality k (name, n)
                      where k.name not in (select x.name from watchbell.ordered_columns(s.order_by) x)) l),
               w.status_column,
               case when watchbell.base_type(a.atttypid) in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
                    then s.from_state else quote_literal(s.from_state) end)
    from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = w.status_column,
         watchbell.watch_steps(w) s
    where c.oid = watchbell.watched_table(w.table_name)
      and not watchbell.has_state_index(c.oid, w.status_column, s.from_state);
end;

-- Tries a condition without reading a row, by the rights of whoever writes it and with the login's search_path.
create function watchbell.filter_refusal(filter text, relation regclass) returns text
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    trial constant text := format('select 1 from %s as t where (%s) limit 0', watchbell.table_text(relation), filter);
begin
    if filter is not null then
        perform set_config('search_path', s.reset_val, true) from pg_catalog.pg_settings s where s.name = 'search_path';
        execute trial;
    end if;
    return null;
exception when syntax_error_or_access_rule_violation or data_exception or feature_not_supported then
    return sqlerrm;
end $$;

create function watchbell.watch_table_refusal(w watchbell.watches, relation regclass) returns watchbell.refusal
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    shown constant text := coalesce(watchbell.table_text(relation), watchbell.shown(w.table_name));
    c constant pg_catalog.pg_class := (select x from pg_catalog.pg_class x where x.oid = relation);
    columns constant text := (
        select string_agg(x.attname, ', ' order by x.attnum)
        from (select * from pg_catalog.pg_attribute y where y.attrelid = relation and y.attnum > 0 and not y.attisdropped
              order by y.attnum limit 20) x);
    keys constant text[] := watchbell.watch_key(w, relation);
    s watchbell.watches;
    a pg_catalog.pg_attribute;
    problem text;
    wrong text;
begin
    if relation is null then
        return watchbell.refused('table_name', format('table %s does not exist', coalesce(shown, 'NULL')), coalesce(
            (select format('Did you mean %s?', n.name)
             from (select watchbell.table_text(x.oid) as name, greatest(
                              watchbell.likeness(watchbell.table_text(x.oid), w.table_name),
                              watchbell.likeness(x.relname, regexp_replace(w.table_name, '^.*\.', ''))) as likeness
                   from pg_catalog.pg_class x
                   where x.relkind in ('r', 'p') and x.relpersistence <> 't' and not x.relispartition
                     and x.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace,
                                                'watchbell'::regnamespace)
                   limit 10000) n
             where n.likeness >= 0.4 order by n.likeness desc, n.name limit 1),
            'Name it as in SQL, with its schema, quoted where needed: public.hosts.'), '22023');
    elsif c.relkind not in ('r', 'p') then
        return watchbell.refused('table_name', format('%s is not a table', shown),
            'Watch the table behind it.', '22023');
    elsif c.relpersistence = 't' then
        return watchbell.refused('table_name', format('%s is a temporary table, which no worker sees', shown),
            'Make it a table that stays.', '22023');
    elsif c.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'watchbell'::regnamespace) then
        return watchbell.refused('table_name', format('%s belongs to the system', shown), 'Watch a table of your own.', '22023');
    end if;

    -- Its key.
    if keys is null then
        return watchbell.refused('key_columns', format('table %s has no primary key', shown),
            format('ALTER TABLE %s ADD PRIMARY KEY (%s); or set key_columns to the columns of a unique index.', shown,
                coalesce((select quote_ident(x.attname) from pg_catalog.pg_attribute x
                          where x.attrelid = relation and x.attname = 'id' and not x.attisdropped), '...')));
    elsif cardinality(keys) not between 1 and 8 or array_ndims(keys) <> 1 or array_position(keys, null) is not null
          or cardinality(keys) <> (select count(distinct k) from unnest(keys) k) then
        return watchbell.refused('key_columns', 'key_columns must be 1 to 8 different columns',
            'NULL means the primary key.');
    end if;
    select k into wrong from unnest(keys) k
    where not exists (select from pg_catalog.pg_attribute x
                      where x.attrelid = relation and x.attname = k and x.attnum > 0 and not x.attisdropped) limit 1;
    if found then
        return watchbell.refused('key_columns', format('table %s has no column "%s"', shown, watchbell.shown(wrong)),
            format('Columns: %s. Set key_columns.', columns));
    end if;
    if not exists (
        select from pg_catalog.pg_index i
        where i.indrelid = relation and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
          and not exists (
              select from unnest(i.indkey::smallint[]) with ordinality k (attnum, n)
              join pg_catalog.pg_attribute x on x.attrelid = relation and x.attnum = k.attnum
              where k.n <= i.indnkeyatts and x.attname <> all (keys))) then
        return watchbell.refused('key_columns',
            format('no unique index of %s covers the key (%s)', shown, array_to_string(keys, ', ')),
            format('CREATE UNIQUE INDEX %sON %s (%s);', case c.relkind when 'r' then 'CONCURRENTLY ' end, shown,
                (select string_agg(quote_ident(k), ', ' order by n) from unnest(keys) with ordinality x (k, n))));
    end if;
    select x.attname into wrong from pg_catalog.pg_attribute x
    where x.attrelid = relation and x.attname = any (keys) and not x.attnotnull limit 1;
    if found then
        return watchbell.refused('key_columns',
            format('column "%s" of the key may be NULL, and NULL names no row', watchbell.shown(wrong)),
            format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', shown, wrong));
    end if;

    -- The column with the state, and all states in it.
    select * into a from pg_catalog.pg_attribute x
    where x.attrelid = relation and x.attname = w.status_column and x.attnum > 0 and not x.attisdropped;
    if not found then
        return watchbell.refused('status_column',
            format('table %s has no column "%s"', shown, watchbell.shown(w.status_column)),
            format('Columns: %s. Set status_column.', columns));
    elsif a.attgenerated <> '' or w.status_column = any (keys) then
        return watchbell.refused('status_column', format('column "%s" of %s %s, so it cannot be moved on',
                watchbell.shown(w.status_column), shown,
                case when a.attgenerated <> '' then 'is generated' else 'is part of the key' end),
            'Set status_column to an ordinary column.');
    elsif watchbell.base_type(a.atttypid) <> all (array['text', 'varchar', 'bpchar', 'smallint', 'integer', 'bigint']::regtype[]::oid[])
          and not exists (select from pg_catalog.pg_type t where t.oid = watchbell.base_type(a.atttypid) and t.typtype = 'e') then
        return watchbell.refused('status_column', format('column "%s" of %s is of type %s', watchbell.shown(w.status_column),
                shown, format_type(a.atttypid, a.atttypmod)),
            'A state is text, varchar, char, an enum, smallint, integer or bigint.');
    end if;
    for s in select * from watchbell.watch_steps(w) loop
        select v."column", p into wrong, problem
        from (values (1, 'from_state', s.from_state), (2, 'via_state', s.via_state), (3, 'to_state', s.to_state),
                     (4, 'error_state', s.error_state)) v (n, "column", state),
             watchbell.state_problem(a.atttypid, a.atttypmod, v.state) p
        where p is not null and (v.state is not null or v."column" <> 'via_state') order by v.n limit 1;
        if found then
            return watchbell.refused(case when w.transitions is null then wrong else 'transitions' end,
                format('watch "%s": %s: %s', w.name, wrong, problem),
                format('It is the state of column "%s" of %s.', watchbell.shown(w.status_column), shown));
        end if;
        select o.name into wrong from watchbell.ordered_columns(s.order_by) o
        where not exists (select from pg_catalog.pg_attribute x where x.attrelid = relation and x.attname = o.name
                                                                  and x.attnum > 0 and not x.attisdropped) limit 1;
        if found then
            return watchbell.refused('order_by', format('table %s has no column "%s"', shown, watchbell.shown(wrong)),
                format('Columns: %s. Set order_by.', columns));
        end if;
        problem := watchbell.filter_refusal(s.filter, relation);
        if problem is not null then
            return watchbell.refused('filter', format('watch "%s": filter: %s', w.name, problem),
                format('Columns: %s.', columns), '22023');
        end if;
    end loop;

    if w.since_column is not null then
        select * into a from pg_catalog.pg_attribute x
        where x.attrelid = relation and x.attname = w.since_column and x.attnum > 0 and not x.attisdropped;
        if not found then
            return watchbell.refused('since_column',
                format('table %s has no column "%s"', shown, watchbell.shown(w.since_column)),
                format('ALTER TABLE %s ADD COLUMN %I timestamptz;', shown, w.since_column));
        elsif watchbell.base_type(a.atttypid) <> 'timestamptz'::regtype or a.attgenerated <> '' then
            return watchbell.refused('since_column', format('column "%s" of %s is no plain timestamptz (it is %s)',
                    watchbell.shown(w.since_column), shown, format_type(a.atttypid, a.atttypmod)),
                'It is set to the moment of each move.');
        end if;
    end if;
    return null;
end $$;

-- 1. Check, and bring into the stored form: the table with its schema.
create function watchbell.watches_check() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
    relation regclass;
    known boolean;
    advice record;
begin
    -- NULL asks for the default; `timeout`, where it means none, is left alone.
    new.payload := coalesce(new.payload, '{}');
    new.status_column := coalesce(new.status_column, 'status');
    new.from_state := coalesce(new.from_state, 'pending');
    new.to_state := coalesce(new.to_state, 'normal');
    new.error_state := coalesce(new.error_state, 'failed');
    new.mode := coalesce(new.mode, 'auto');
    new.batch_size := coalesce(new.batch_size, 100);
    new.rate_period := coalesce(new.rate_period, '1 s');
    new.poll_interval := coalesce(new.poll_interval, '1 s');
    new.max_attempts := coalesce(new.max_attempts, 3);
    new.tags := coalesce(new.tags, '{}');

    refusal := watchbell.watch_refusal(new);
    if refusal is null then
        relation := watchbell.watched_table(new.table_name);
        refusal := watchbell.watch_table_refusal(new, relation);
    end if;
    if refusal is not null then
        raise exception using message = refusal.sentence, hint = refusal.hint, errcode = refusal.code,
            schema = 'watchbell', table = 'watches', column = refusal."column";
    end if;
    new.table_name := watchbell.table_text(relation);

    -- Said once, when it is new: programs declare their watches at each start.
    if tg_op = 'INSERT' then
        known := exists (select from watchbell.watches w where w.name = new.name);
    else
        known := (new.table_name, new.status_column, new.from_state, new.order_by, new.handler, new.transitions)
                 is not distinct from
                 (old.table_name, old.status_column, old.from_state, old.order_by, old.handler, old.transitions);
    end if;
    if known then
        return new;
    end if;
    for advice in select * from watchbell.watch_advice(new) loop
        raise warning using message = format('no partial index on %s for its %s rows', new.table_name,
                                             watchbell.shown(advice.state)),
            hint = advice.statement;
    end loop;
    for advice in
        select distinct s.handler as name from watchbell.watch_steps(new) s
        where not exists (select from watchbell.handlers h where h.name = s.handler)
    loop
        raise warning using
            message = format('no worker has ever registered handler "%s" (the watch is accepted and will wait)',
                             watchbell.shown(advice.name)),
            hint = coalesce((select format('Known handlers: %s.', string_agg(h.name, ', '))
                             from (select h.name from watchbell.handlers h order by h.name limit 20) h having count(*) > 0),
                            'No worker has registered any handler yet.');
    end loop;
    for advice in
        select s.from_state as state
        from watchbell.watch_steps(new) with ordinality s
        where s.ordinality > 1 and not exists (select from watchbell.watch_steps(new) p
                                               where s.from_state in (p.to_state, p.error_state))
    loop
        raise notice using
            message = format('no step of watch "%s" leads to "%s"', new.name, watchbell.shown(advice.state)),
            hint = 'Rows come there only by statements of your own.';
    end loop;
    return new;
end $$;

-- They fire in the order of their names.
create trigger watches_1_check before insert or update of
    name, table_name, handler, payload, key_columns, status_column, since_column, from_state, via_state, to_state,
    error_state, transitions, mode, batch_size, max_running, rate_limit, rate_period, order_by, filter, poll_interval,
    timeout, retry, max_attempts, description, owner, runbook_url, tags, managed_by
on watchbell.watches for each row execute function watchbell.watches_check();

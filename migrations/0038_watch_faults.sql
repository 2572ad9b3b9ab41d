-- What needs a person about watches, continued: rows that were given up lately, rows that stand at a state of work
-- although nobody works on them, a filter that fails, two watches that take the same rows. And `release_rows`.

-- Rows given up, in a row: with less than an hour between any two. Whichever statement counts them.
alter table watchbell.watch_totals
    add column failed_lately bigint not null default 0,
    add column failing_since timestamptz,
    add column failed_at     timestamptz;
comment on column watchbell.watch_totals.failed_lately is 'Rows given up with less than an hour between any two of them, the last at failed_at.';
comment on column watchbell.watch_totals.failing_since is 'When the first of these was.';
comment on column watchbell.watch_totals.failed_at is 'When the last row was given up.';

create function watchbell.watch_totals_failed() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    so_far bigint := 0;
    goes_on boolean := false;
begin
    if tg_op = 'UPDATE' then
        so_far := old.failed;
        goes_on := coalesce(old.failed_at > watchbell.clock() - interval '1 hour', false);
    end if;
    new.failed_lately := new.failed - so_far + case when goes_on then new.failed_lately else 0 end;
    new.failing_since := case when goes_on then new.failing_since else watchbell.clock() end;
    new.failed_at := watchbell.clock();
    return new;
end $$;
-- Number 0 has what workers counted that ended an hour ago.
create trigger watch_totals_failed_first before insert on watchbell.watch_totals
for each row when (new.failed > 0 and new.worker_id <> 0) execute function watchbell.watch_totals_failed();
create trigger watch_totals_failed_again before update on watchbell.watch_totals
for each row when (new.failed > old.failed and new.worker_id <> 0) execute function watchbell.watch_totals_failed();

-- What a worker finds at its look, once a minute; people who ask what needs a person may not read the tables
-- themselves. `stuck` with no rows is a state of work that was edited away while rows may have stood there.
create table watchbell.watch_faults (
    watch_id bigint not null,
    kind     text collate "C" not null,
    state    text collate "C" not null,
    step     text collate "C" not null,
    rows     bigint,
    capped   boolean not null default false,
    reason   text,
    since    timestamptz,
    primary key (watch_id, kind, state)
);
comment on table watchbell.watch_faults is 'What a worker found wrong with the rows of a watch, looked at once a minute; gone when it is mended.';
comment on column watchbell.watch_faults.watch_id is 'The watch.';
comment on column watchbell.watch_faults.kind is 'stuck (rows at a state of work that no worker has) or filter (it fails).';
comment on column watchbell.watch_faults.state is 'The state of the rows.';
comment on column watchbell.watch_faults.step is 'The state that such rows are taken from.';
comment on column watchbell.watch_faults.rows is 'How many stand there, up to 1,000; NULL where they cannot be counted.';
comment on column watchbell.watch_faults.capped is 'There may be more.';
comment on column watchbell.watch_faults.reason is 'What the database says.';
comment on column watchbell.watch_faults.since is 'When it was first found; NULL while it is only suspected.';

-- Workers take turns: whoever comes first within a minute looks.
create table watchbell.watch_looks (
    watch_id  bigint primary key,
    looked_at timestamptz not null
) with (fillfactor = 50);
comment on table watchbell.watch_looks is 'When some worker last looked for what is wrong with the rows of a watch.';
comment on column watchbell.watch_looks.watch_id is 'The watch.';
comment on column watchbell.watch_looks.looked_at is 'When the look began.';

-- States of work that an edit takes away stay known: rows may stand there, and their worker may die.
create function watchbell.watches_via() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if tg_op = 'DELETE' or (old.table_name, old.status_column) is distinct from (new.table_name, new.status_column) then
        delete from watchbell.watch_faults f where f.watch_id = old.id;
        delete from watchbell.watch_looks l where l.watch_id = old.id;
    else
        insert into watchbell.watch_faults (watch_id, kind, state, step)
        select new.id, 'stuck', o.via_state, min(o.from_state)
        from watchbell.watch_steps(old) o
        where o.via_state is not null
          and not exists (select from watchbell.watch_steps(new) n
                          where o.via_state in (n.from_state, n.via_state, n.to_state, n.error_state))
        group by o.via_state
        on conflict do nothing;
        delete from watchbell.watch_faults f
        where f.watch_id = new.id and f.kind = 'stuck'
          and exists (select from watchbell.watch_steps(new) n where f.state in (n.from_state, n.to_state, n.error_state));
    end if;
    return null;
end $$;
create trigger watches_via after delete or update of
    table_name, status_column, from_state, via_state, to_state, error_state, transitions
on watchbell.watches for each row execute function watchbell.watches_via();

-- Looks for what is wrong with the rows of a watch, by the rights of the worker; answers how much is.
create function watchbell.find_watch_faults(watch bigint) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w watchbell.watches;
    s record;
    c record;
begin
    select * into w from watchbell.watches o where o.id = watch;
    if watchbell.state_type(watchbell.watched_table(w.table_name), w.status_column) is null then
        return 0; -- the watch will be invalid, which says more
    end if;
    for s in
        select x.via_state as state, min(x.from_state) as step, true as known
        from watchbell.watch_steps(w) x where x.via_state is not null group by x.via_state
        union all
        select f.state, f.step, false from watchbell.watch_faults f
        where f.watch_id = watch and f.kind = 'stuck'
          and not exists (select from watchbell.watch_steps(w) x where x.via_state = f.state)
    loop
        select * into c from watchbell.count_rows(w, s.state, null, 1000, true);
        if c.rows > 0 then
            insert into watchbell.watch_faults as f (watch_id, kind, state, step, rows, capped, since)
            values (watch, 'stuck', s.state, s.step, c.rows, c.capped, watchbell.clock())
            on conflict (watch_id, kind, state) do update
            set rows = excluded.rows, capped = excluded.capped, since = coalesce(f.since, excluded.since)
            where (f.rows, f.capped) is distinct from (excluded.rows, excluded.capped);
        elsif s.known or c.rows = 0 and not exists (
                select from watchbell.watch_claims o where o.watch_id = watch and o.claimed_by is not null) then
            delete from watchbell.watch_faults f where f.watch_id = watch and f.kind = 'stuck' and f.state = s.state;
        else
            update watchbell.watch_faults f set rows = c.rows, since = null
            where f.watch_id = watch and f.kind = 'stuck' and f.state = s.state and f.since is not null;
        end if;
    end loop;

    delete from watchbell.watch_faults f
    where f.watch_id = watch and f.kind = 'filter'
      and not exists (select from watchbell.watch_steps(w) x where x.from_state = f.state and x.filter is not null);
    for s in select x.from_state as state, x.filter from watchbell.watch_steps(w) x where x.filter is not null loop
        select * into c from watchbell.count_rows(w, s.state, s.filter, 1000, false);
        if c.problem like 'its filter fails: %' then
            insert into watchbell.watch_faults as f (watch_id, kind, state, step, reason, since)
            values (watch, 'filter', s.state, s.state, left(c.problem, 1000), watchbell.clock())
            on conflict (watch_id, kind, state) do update set reason = excluded.reason
            where f.reason is distinct from excluded.reason;
        else
            delete from watchbell.watch_faults f where f.watch_id = watch and f.kind = 'filter' and f.state = s.state;
        end if;
    end loop;
    return (select count(*) from watchbell.watch_faults f where f.watch_id = watch and f.since is not null);
end $$;

-- Rows at a state of work that no worker has go back to the state they were taken from. First they are locked, and then
-- asked again whether a worker has them: nobody claims a row without its lock.
create function watchbell.release_rows(name text, key text[] default null, max integer default 1000) returns bigint
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
comment on function watchbell.release_rows is 'Puts rows that stand at a via state although no worker has them back to the state they were taken from, all or the one of this key; answers how many.';
comment on column watchbell.activity.what is 'insert, update, delete, or the function: pause, resume, skip_next, run_now, backfill, cancel, cancel_schedule, retry, retry_failed, retry_watch, release_rows, drain, undrain.';

-- Which rows each step of a watch takes.
create function watchbell.watch_takes(w watchbell.watches) returns table (state text, filter text)
language sql immutable set search_path = watchbell, pg_temp
begin atomic
    select coalesce(x.step->>'from', w.from_state), case when x.step ? 'filter' then x.step->>'filter' else w.filter end
    from jsonb_array_elements(case when jsonb_typeof(w.transitions) = 'array' then w.transitions else '[{}]' end) x (step);
end;

-- The first of the earlier watches that takes just the same rows as this one, and their state. What is paused takes none.
create function watchbell.watch_rival(watch bigint) returns table (name text, state text)
language sql stable set search_path = watchbell, pg_temp
begin atomic
    select o.name, t.state
    from watchbell.watches w
    join watchbell.watches o on o.table_name = w.table_name and o.status_column = w.status_column and o.id < w.id,
         watchbell.watch_takes(w) t, watchbell.watch_takes(o) u
    where w.id = watch and w.paused_at is null and o.paused_at is null
      and t.state = u.state and t.filter is not distinct from u.filter
    order by o.id limit 1;
end;

-- Whoever changes what one watch takes of a table has the others planned anew. Passed over where a person holds them:
-- they are planned every hour.
create function watchbell.watches_rivals() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    -- Programs declare the same again at each start.
    if tg_op = 'UPDATE' and (new.table_name, new.status_column, new.from_state, new.filter, new.transitions, new.paused_at)
                            is not distinct from
                            (old.table_name, old.status_column, old.from_state, old.filter, old.transitions, old.paused_at) then
        return null;
    end if;
    update watchbell.watches w set wake_at = '-infinity'
    from (select o.id from watchbell.watches o
          where o.id <> old.id and o.wake_at > '-infinity'
            and (o.table_name = old.table_name or tg_op = 'UPDATE' and o.table_name = new.table_name)
          for no key update skip locked) o
    where w.id = o.id;
    return null;
end $$;
create trigger watches_rivals after delete or update of
    table_name, status_column, from_state, filter, transitions, paused_at
on watchbell.watches for each row execute function watchbell.watches_rivals();

-- As in 0033, with four more. The rows of a watched table are not read here: who looks may have no right to them.
create or replace view watchbell.attention_watches as
with t as materialized (
    select watchbell.clock() as now
), live as materialized (
    select w.handlers from watchbell.workers w
    where w.state in ('starting', 'running') and w.lease_until > watchbell.clock()
)
select 'critical' as severity, 'invalid' as kind, 'watch' as subject_kind, w.name::text as subject, w.updated_at as since,
       'no row of it is taken: ' || coalesce(w.error, 'no reason was recorded') as reason,
       format('watchbell watch show %s', w.name) as command
from watchbell.watches w
where w.status = 'invalid' and w.paused_at is null
union all
select 'warning', 'paused', 'watch', w.name, w.paused_at,
       format('it has been paused for %s by %s (limit 7d)%s', watchbell.span(t.now - w.paused_at),
              coalesce(w.paused_by, 'somebody'), ': ' || nullif(left(w.pause_note, 200), '')),
       format('watchbell watch resume %s', w.name)
from t cross join watchbell.watches w
where w.paused_at < t.now - interval '7 days' and coalesce(w.paused_until, 'infinity') = 'infinity'
union all
select 'warning', 'unserved_handler', 'watch', w.name, null,
       format('no live worker has handler "%s", so its rows stay in %s', h.handler, h.states) collate "default",
       case when h.handler in ('shell', 'http', 'sql') then 'watchbell worker run --enable-' || h.handler
            else format('watchbell watch show %s', w.name) end
from watchbell.watches w
cross join lateral (
    select s.handler, string_agg(format('"%s"', s.from_state), ', ' order by s.n) as states
    from (select coalesce(x.step->>'handler', w.handler) as handler, coalesce(x.step->>'from', w.from_state) as from_state, x.n
          from jsonb_array_elements(coalesce(w.transitions, '[{}]')) with ordinality x (step, n)) s
    where s.handler is not null
    group by s.handler
) h
where w.paused_at is null and w.status <> 'invalid' and exists (select from live)
  and not exists (select from live l where h.handler = any (l.handlers))
union all
select 'warning', 'given_up', 'watch', w.name, g.since,
       format('%s of its rows %s given up in its error state, the last %s ago; mend what fails, then: watchbell watch retry %s',
              g.rows, case when g.rows = 1 then 'was' else 'were' end, watchbell.span(t.now - g.last), w.name) collate "default",
       format('watchbell watch show %s', w.name)
from t
cross join watchbell.watches w
cross join lateral (
    select sum(o.failed_lately) as rows, min(o.failing_since) as since, max(o.failed_at) as last
    from watchbell.watch_totals o where o.watch_id = w.id and o.failed_at > t.now - interval '1 hour'
) g
where g.rows > 0
union all
select 'critical', 'stuck', 'watch', w.name, f.since,
       format('%s%s of its rows %s at "%s" and no worker has %s: %s there until %s', f.rows,
              case when f.capped then ' or more' else '' end, case when f.rows = 1 then 'stands' else 'stand' end, f.state,
              case when f.rows = 1 then 'it' else 'them' end, case when f.rows = 1 then 'it stays' else 'they stay' end,
              case when f.rows = 1 then 'it is released' else 'they are released' end) collate "default",
       format('watchbell watch release %s', w.name)
from watchbell.watch_faults f join watchbell.watches w on w.id = f.watch_id
where f.kind = 'stuck' and f.rows > 0
union all
select 'critical', 'filter_fails', 'watch', w.name, f.since,
       format('rows in state "%s" are not taken: %s', f.state, f.reason) collate "default", format('watchbell watch show %s', w.name)
from watchbell.watch_faults f join watchbell.watches w on w.id = f.watch_id
where f.kind = 'filter' and w.paused_at is null
union all
select 'warning', 'taken_twice', 'watch', w.name, null,
       format('watch "%s" takes rows in state "%s" of %s too%s: a row may be worked on by both', o.name, a.state,
              w.table_name, case when a.filter is null then ', and this one has no filter' else ' and has no filter' end) collate "default",
       format('watchbell watch show %s', w.name)
from watchbell.watches w
join watchbell.watches o on o.table_name = w.table_name and o.status_column = w.status_column and o.id < w.id,
     watchbell.watch_takes(w) a, watchbell.watch_takes(o) b
where w.paused_at is null and o.paused_at is null and w.status <> 'invalid' and o.status <> 'invalid'
  and a.state = b.state and num_nulls(a.filter, b.filter) = 1;

comment on view watchbell.attention_watches is 'Of attention: watches that are invalid, paused for long, without a worker for one of their steps, whose filter fails or whose rows another one takes too, and rows that were given up lately or are stuck.';

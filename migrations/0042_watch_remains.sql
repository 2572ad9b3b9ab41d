-- What a deleted watch leaves behind: rows that were in work and whose worker dies go back to the state they were taken
-- from, as if the watch were there, and rows that stand at a state of work although nobody has them are told.

create table watchbell.watch_remains (
    watch_id   bigint primary key,
    name       text not null,
    definition jsonb not null,
    deleted_at timestamptz not null,
    looked_at  timestamptz,
    problem    text
);
comment on table watchbell.watch_remains is 'Deleted watches with states of work, for as long as rows may stand there: 7 days at most.';
comment on column watchbell.watch_remains.watch_id is 'The number of the watch.';
comment on column watchbell.watch_remains.name is 'Its name.';
comment on column watchbell.watch_remains.definition is 'Its row, but for its payload.';
comment on column watchbell.watch_remains.deleted_at is 'When it was deleted.';
comment on column watchbell.watch_remains.looked_at is 'When some worker last looked at its rows.';
comment on column watchbell.watch_remains.problem is 'Why its rows could not be looked at.';

-- Who deletes a watch is told what stays. States of work that an edit takes away stay known, as in 0038.
create or replace function watchbell.watches_via() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    in_work bigint;
    stuck bigint;
    left_over text;
begin
    if tg_op = 'DELETE' then
        select string_agg(distinct format('UPDATE %s SET %I = %L WHERE %I = %L;', old.table_name, old.status_column,
                                          x.from_state, old.status_column, x.via_state), ' ')
        into left_over from watchbell.watch_steps(old) x where x.via_state is not null;
        if left_over is not null then
            insert into watchbell.watch_remains (watch_id, name, definition, deleted_at)
            values (old.id, old.name, to_jsonb(old) - '{payload,plan,transitions}'::text[]
                || jsonb_build_object('transitions', (
                       select jsonb_agg(jsonb_build_object('from', x.from_state, 'via', x.via_state, 'to', x.to_state,
                                                           'error', x.error_state, 'handler', x.handler))
                       from watchbell.watch_steps(old) x)), watchbell.clock())
            on conflict do nothing;
            select count(*) into in_work
            from (select from watchbell.watch_claims c where c.watch_id = old.id and c.claimed_by is not null limit 10000) c;
            select coalesce(sum(f.rows), 0) into stuck
            from watchbell.watch_faults f where f.watch_id = old.id and f.kind = 'stuck';
            if in_work > 0 then
                raise warning using
                    message = format('watch "%s" is deleted while %s of %s in work', old.name,
                        case in_work when 1 then '1 row' when 10000 then 'at least 10000 rows' else in_work || ' rows' end,
                        old.table_name || case in_work when 1 then ' is' else ' are' end),
                    hint = 'They end as if it were there, or go back to where they were taken from if their worker dies.';
            end if;
            if stuck > 0 then
                raise warning using
                    message = format('watch "%s" is deleted while %s at a state of work and no worker has %s', old.name,
                        case stuck when 1 then '1 row stands' else stuck || ' rows stand' end,
                        case stuck when 1 then 'it' else 'them' end),
                    hint = left_over;
            end if;
        end if;
    end if;
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

-- Claims of a watch whose claimant is not a live worker.
create function watchbell.orphaned_claims(watch bigint) returns setof watchbell.watch_claims
language sql stable set search_path = watchbell, pg_temp
begin atomic
    select c.* from watchbell.watch_claims c
    where c.watch_id = watch and c.claimed_by is not null
      and not exists (select from watchbell.workers w
                      where w.id = c.claimed_by and w.state in ('starting', 'running', 'draining'));
end;

-- Puts rows of one deleted watch back that dead workers had, up to 1000 of each step: by their keys, so that no index
-- has to lead to the state. The row is locked first and its claim second, as everywhere.
create function watchbell.return_rows(w watchbell.watches, relation regclass) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    kind constant text := watchbell.state_type(relation, w.status_column);
    same constant text := (
        select string_agg(format('t.%I = o.key[%s]::%s', x.k, x.n, format_type(a.atttypid, a.atttypmod)), ' and ')
        from unnest(watchbell.watch_key(w, relation)) with ordinality x (k, n)
        join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = x.k);
    s record;
    moved bigint;
    total bigint := 0;
begin
    for s in select x.from_state, x.via_state from watchbell.watch_steps(w) x where x.via_state is not null loop
        execute format(
            'with o as materialized ('
            '    select c.key from watchbell.orphaned_claims($1) c where c.step = $2 order by c.key limit 1000'
            '), l as materialized ('
            '    select o.key from o join %1$s t on %2$s and t.%3$I = %4$L::%5$s order by o.key'
            '    for no key update of t skip locked'
            ') update %1$s t set %3$I = %6$L::%5$s%7$s from l o where %2$s and t.%3$I = %4$L::%5$s',
            watchbell.table_text(relation), same, w.status_column, s.via_state, kind, s.from_state,
            case when w.since_column is not null then format(', %I = clock_timestamp()', w.since_column) end)
        using w.id, s.from_state;
        get diagnostics moved = row_count;
        total := total + moved;
        -- What somebody has locked stands there still, and keeps its claim until the next look.
        execute format(
            'delete from watchbell.watch_claims c using watchbell.orphaned_claims($1) o '
            'where c.watch_id = o.watch_id and c.key = o.key and c.id = o.id and c.fence = o.fence and o.step = $2 '
            'and not exists (select from %s t where %s and t.%I = %L::%s)',
            watchbell.table_text(relation), same, w.status_column, s.via_state, kind) using w.id, s.from_state;
    end loop;
    delete from watchbell.watch_claims c using watchbell.orphaned_claims(w.id) o
    where c.watch_id = o.watch_id and c.key = o.key and c.id = o.id and c.fence = o.fence
      and not exists (select from watchbell.watch_steps(w) x where x.from_state = o.step and x.via_state is not null);
    return total;
end $$;

-- Puts rows of deleted watches back, by the rights of the worker, and answers how many; with `looks` also counts those at
-- a state of work that nobody has, and forgets watches that left none.
create function watchbell.settle_remains(looks boolean) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    r record;
    s record;
    c record;
    w watchbell.watches;
    relation regclass;
    stuck boolean;
    total bigint := 0;
begin
    for r in
        select * from watchbell.watch_remains o order by o.looked_at nulls first limit 10 for update skip locked
    loop
        w := jsonb_populate_record(null::watchbell.watches, r.definition);
        relation := watchbell.watched_table(w.table_name);
        stuck := false;
        begin
            if watchbell.state_type(relation, w.status_column) is not null then
                total := total + watchbell.return_rows(w, relation);
                for s in
                    select x.via_state as state, min(x.from_state) as step
                    from watchbell.watch_steps(w) x
                    where looks and x.via_state is not null
                      -- a watch of today knows more of it
                      and not exists (select from watchbell.watches o cross join lateral watchbell.watch_steps(o) y
                                      where o.table_name = w.table_name and o.status_column = w.status_column
                                        and x.via_state in (y.from_state, y.via_state, y.to_state, y.error_state))
                    group by x.via_state
                loop
                    select * into c from watchbell.count_rows(w, s.state, null, 1000, true);
                    stuck := stuck or coalesce(c.rows > 0, false);
                    insert into watchbell.watch_faults as f (watch_id, kind, state, step, rows, capped, since)
                    values (r.watch_id, 'stuck', s.state, s.step, c.rows, c.capped, watchbell.clock())
                    on conflict (watch_id, kind, state) do update set rows = excluded.rows, capped = excluded.capped
                    where (f.rows, f.capped) is distinct from (excluded.rows, excluded.capped);
                end loop;
            end if;
            update watchbell.watch_remains o set looked_at = watchbell.clock(), problem = null
            where o.watch_id = r.watch_id and (looks or o.problem is not null);
        exception when others then
            stuck := true;
            update watchbell.watch_remains o set looked_at = watchbell.clock(), problem = left(sqlerrm, 1000)
            where o.watch_id = r.watch_id;
        end;
        if looks and (r.deleted_at < watchbell.clock() - interval '7 days' or not stuck and not exists (
                select from watchbell.watch_claims o where o.watch_id = r.watch_id and o.claimed_by is not null)) then
            delete from watchbell.watch_faults f where f.watch_id = r.watch_id;
            delete from watchbell.watch_remains o where o.watch_id = r.watch_id;
        end if;
    end loop;
    return total;
end $$;

-- As in 0038, with what deleted watches left.
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
  and a.state = b.state and num_nulls(a.filter, b.filter) = 1
union all
select 'critical', 'stuck', 'watch', r.name, f.since,
       format('%s%s of %s %s at "%s" and no worker has %s, since this watch was deleted: put %s back by an UPDATE', f.rows,
              case when f.capped then ' or more rows' when f.rows = 1 then ' row' else ' rows' end, r.definition->>'table_name',
              case when f.rows = 1 then 'stands' else 'stand' end, f.state, case when f.rows = 1 then 'it' else 'them' end,
              case when f.rows = 1 then 'it' else 'them' end) collate "default",
       format('psql -c "%s"', replace(replace(
           format('UPDATE %s SET %I = %L WHERE %I = %L', r.definition->>'table_name', r.definition->>'status_column', f.step,
                  r.definition->>'status_column', f.state), '\', '\\'), '"', '\"')) collate "C"
from watchbell.watch_remains r join watchbell.watch_faults f on f.watch_id = r.watch_id
where f.kind = 'stuck' and f.rows > 0
union all
select 'warning', 'stuck', 'watch', r.name, r.deleted_at,
       format('rows of %s may stand at a state of work, since this watch was deleted: they could not be looked at: %s',
              r.definition->>'table_name', r.problem) collate "default",
       'watchbell watch list' collate "C"
from watchbell.watch_remains r
where r.problem is not null;

comment on function watchbell.watches_via() is 'Says what a deleted watch leaves, and keeps states of work known that an edit takes away.';
comment on view watchbell.attention_watches is 'Of attention: watches that are invalid, paused for long, without a worker for one of their steps, whose filter fails or whose rows another one takes too, and rows that were given up lately or are stuck, also those of a watch that was deleted.';

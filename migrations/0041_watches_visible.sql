-- Watches made visible: rows in work are load of their worker, a key that names no row is said to, the wake-up trigger
-- goes with its watch, and who may not read the table of watches sees what they are but for their payloads.

-- As in 0015, with the rows of watches that a worker has in its slots. Of claims at most 100,000 are read: no index can
-- stand on a column that each claim changes.
create or replace view watchbell.worker_status as
select w.id, w.name, w.host, w.ip, w.pid, w.version, w.state, w.slots, coalesce(r.n, 0) + coalesce(c.n, 0) as running,
       w.queues, w.handlers, w.labels, w.started_at, w.heartbeat_at, now() - w.heartbeat_at as heartbeat_age,
       w.lease_until,
       (select max(q.requested_at) from watchbell.worker_requests q
        where q.worker_id = w.id and q.request = 'drain') as drain_requested_at,
       w.ended_at
from watchbell.workers w
left join (select l.claimed_by, count(*) as n from watchbell.runs_live l where l.claimed_by is not null
           group by l.claimed_by) r on r.claimed_by = w.id
left join (select x.claimed_by, count(*) as n
           from (select k.claimed_by from watchbell.watch_claims k limit 100000) x where x.claimed_by is not null
           group by x.claimed_by) c on c.claimed_by = w.id;

comment on column watchbell.worker_status.slots is 'How many runs, and rows of watches in leased mode, it works on at once.';
comment on column watchbell.worker_status.running is 'How many of these it has. Rows inside a transaction take no slot.';

-- Each watch as people read it, but for its payload, into which a producer may not look.
create view watchbell.watch_definitions as
select w.id, w.name, w.table_name, w.key_columns, w.status_column, w.since_column,
       (select jsonb_agg(jsonb_build_object(
                   'from', s.from_state, 'via', s.via_state, 'to', s.to_state, 'error', s.error_state,
                   'handler', s.handler, 'mode', coalesce(p.p->>'mode', nullif(s.mode, 'auto')),
                   'reason', p.p->>'reason') order by s.ordinality)
        from watchbell.watch_steps(w) with ordinality s
        left join lateral (select p from jsonb_array_elements(coalesce(w.plan->'steps', '[]')) p
                           where p->>'from' = s.from_state limit 1) p on true) as steps,
       w.mode, w.batch_size, w.max_running, w.rate_limit, w.rate_period, w.order_by, w.filter, w.poll_interval, w.timeout,
       w.retry, w.max_attempts, w.description, w.owner, w.runbook_url, w.tags, w.managed_by, w.status, w.error, w.plan,
       w.planned_at, w.paused_at, w.paused_by, least(w.paused_until, '9999-12-31 00:00Z') as paused_until, w.pause_note,
       w.version, w.created_at, w.updated_at,
       exists (select from pg_catalog.pg_trigger t
               where t.tgrelid = watchbell.watched_table(w.table_name) and not t.tgisinternal
                 and t.tgname = watchbell.wake_trigger(w.status_column)) as wakes
from watchbell.watches w;

comment on view watchbell.watch_definitions is 'Each watch as it was written, but for its payload.';
do $$
declare
    said record;
begin
    for said in
        select a.attname, coalesce(col_description('watchbell.watches'::regclass, t.attnum),
                                   case a.attname when 'steps' then 'Its steps: a list of from, via, to, error, handler, mode and reason.'
                                                  else 'Whether the table has the trigger of wake_watch.' end) as words
        from pg_catalog.pg_attribute a
        left join pg_catalog.pg_attribute t on t.attrelid = 'watchbell.watches'::regclass and t.attname = a.attname
        where a.attrelid = 'watchbell.watch_definitions'::regclass and a.attnum > 0
    loop
        execute format('comment on column watchbell.watch_definitions.%I is %L', said.attname, said.words);
    end loop;
end $$;

-- The payload for those who may read the table, and NULL for others: by the rights of the caller.
create function watchbell.watch_payload(watch bigint) returns jsonb
language plpgsql stable set search_path = watchbell, pg_temp as $$
begin
    if has_column_privilege('watchbell.watches', 'payload', 'select')
       and has_column_privilege('watchbell.watches', 'id', 'select') then
        return (select w.payload from watchbell.watches w where w.id = watch);
    end if;
    return null;
end $$;

-- A row's key as a person gave it: each part is a value of its column's type, and some row has it.
create function watchbell.expect_row(w watchbell.watches, relation regclass, keys text[], key text[]) returns void
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    part record;
    conditions text[];
    there boolean;
begin
    if key is null then
        return;
    elsif cardinality(key) <> cardinality(keys) then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'watches', column = 'key_columns',
            message = format('key %s is not of %s columns', key, cardinality(keys)),
            hint = format('A key is a list of %s.', array_to_string(keys, ', '));
    end if;
    for part in
        select x.k as name, key[x.n] as value, format_type(a.atttypid, a.atttypmod) as kind
        from unnest(keys) with ordinality x (k, n)
        join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = x.k
        order by x.n
    loop
        begin
            execute format('select %L::%s', part.value, part.kind);
        exception when data_exception then
            raise exception using errcode = '22023', schema = 'watchbell', table = 'watches', column = 'key_columns',
                message = format('watch "%s": "%s" is not a value of key column "%s", which is %s', w.name,
                                 watchbell.shown(part.value), part.name, part.kind),
                hint = sqlerrm;
        end;
        conditions := conditions || format('t.%I = %L::%s', part.name, part.value, part.kind);
    end loop;
    execute format('select exists (select from %s t where %s)', watchbell.table_text(relation),
                   array_to_string(conditions, ' and ')) into there;
    if not there then
        raise exception using errcode = 'P0002', schema = 'watchbell', table = 'watches', column = 'key_columns',
            message = format('watch "%s": no row of %s has the key %s', w.name, w.table_name, key),
            hint = format('A key is a list of %s.', array_to_string(keys, ', '));
    end if;
end $$;

-- What it was, behind a look at the key: of one that no row has it says so.
alter function watchbell.retry_watch(text, text[], integer) rename to retry_rows;
comment on function watchbell.retry_rows is null;

create function watchbell.retry_watch(name text, key text[] default null, max integer default 1000) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    w constant watchbell.watches := watchbell.watched(name);
    relation constant regclass := watchbell.watched_table(w.table_name);
begin
    perform watchbell.expect_row(w, relation, watchbell.watch_key(w, relation), key);
    return watchbell.retry_rows(name, key, max);
end $$;
comment on function watchbell.retry_watch is 'Puts rows of a watch that failed back to the step that failed, all or the one of this key; answers how many.';

-- Whoever asks for this waits for sessions that use the table, which then wait for it: not for long.
create function watchbell.drop_wake_trigger(relation regclass, status_column text) returns void
language plpgsql set search_path = watchbell, pg_temp set lock_timeout = '2s' as $$
begin
    execute format('drop trigger %I on %s', watchbell.wake_trigger(status_column), watchbell.table_text(relation));
end $$;

-- As in 0032, and the trigger for wake-ups goes too unless another watch of the table is there.
create or replace function watchbell.unwatch(name text) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    gone constant bigint := watchbell.watch_id(name);
    w watchbell.watches;
    relation regclass;
begin
    delete from watchbell.watches x where x.id = gone returning * into w;
    relation := watchbell.watched_table(w.table_name);
    if exists (select from pg_catalog.pg_trigger t
               where t.tgrelid = relation and t.tgname = watchbell.wake_trigger(w.status_column))
       and not exists (select from watchbell.watches o
                       where o.status_column = w.status_column and watchbell.watched_table(o.table_name) = relation) then
        begin
            perform watchbell.drop_wake_trigger(relation, w.status_column);
            if has_table_privilege('watchbell.activity', 'insert') then
                perform watchbell.note_change('unwake_watch', 'watch', w.name, w.id, null,
                    jsonb_build_object('table_name', w.table_name));
            end if;
        exception when insufficient_privilege or lock_not_available then
            raise warning using
                message = format('trigger %I stays on %s: %s', watchbell.wake_trigger(w.status_column),
                                 watchbell.table_text(relation), sqlerrm),
                hint = format('DROP TRIGGER %I ON %s;', watchbell.wake_trigger(w.status_column),
                              watchbell.table_text(relation));
        end;
    end if;
    return gone;
end $$;
comment on function watchbell.unwatch is 'Deletes a watch, and the trigger that wake_watch made; the rows of its table stay as they are. Answers its number.';

-- As in 0032, and recorded.
create or replace function watchbell.wake_watch(name text) returns boolean
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
    if has_table_privilege('watchbell.activity', 'insert') then
        perform watchbell.note_change('wake_watch', 'watch', w.name, w.id, null, jsonb_build_object('table_name', w.table_name));
    end if;
    return true;
end $$;

create or replace function watchbell.unwake_watch(name text) returns boolean
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
    perform watchbell.drop_wake_trigger(relation, w.status_column);
    if has_table_privilege('watchbell.activity', 'insert') then
        perform watchbell.note_change('unwake_watch', 'watch', w.name, w.id, null, jsonb_build_object('table_name', w.table_name));
    end if;
    return true;
end $$;

comment on column watchbell.activity.what is 'insert, update, delete, or the function: pause, resume, skip_next, run_now, backfill, cancel, cancel_schedule, retry, retry_failed, retry_watch, release_rows, wake_watch, unwake_watch, drain, undrain.';

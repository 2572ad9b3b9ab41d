-- What needs a person: one row each, with the reason and the command to run next. In parts, so that a later
-- migration replaces one of them. Each part reads a bounded number of rows, by an index: this is looked at most
-- when there is much of everything. A worker lives here while its lease runs.

-- A length of time in two units at most: 45s, 5m10s, 2h, 3d4h.
create function watchbell.span(elapsed interval) returns text
language sql immutable strict set search_path = watchbell, pg_temp
return (
    select case
        when s < 60 then s || 's'
        when s < 3600 then s / 60 || 'm' || case when s % 60 > 0 then s % 60 || 's' else '' end
        when s < 86400 then s / 3600 || 'h' || case when s / 60 % 60 > 0 then s / 60 % 60 || 'm' else '' end
        else s / 86400 || 'd' || case when s / 3600 % 24 > 0 then s / 3600 % 24 || 'h' else '' end end
    from (select greatest(floor(extract(epoch from elapsed)), 0)::bigint as s) x);

create view watchbell.attention_schedules as
with recursive t as materialized (
    select watchbell.clock() as now, exists (
        select from watchbell.workers w
        where w.state in ('starting', 'running') and w.lease_until > watchbell.clock()) as alive
), open (id) as (
    -- each schedule that has open runs, from one to the next
    (select r.schedule_id from watchbell.runs_live r where r.schedule_id is not null order by r.schedule_id limit 1)
    union all
    select (select r.schedule_id from watchbell.runs_live r where r.schedule_id > o.id order by r.schedule_id limit 1)
    from open o where o.id is not null
)
-- Without a live worker all are overdue: that is one row of its own.
select 'critical' as severity, 'overdue' as kind, 'schedule' as subject_kind, s.name::text as subject, o.since,
       case when isfinite(s.wake_at)
            then format('its fire time %s passed %s ago and no worker has acted on it (limit 1m)',
                        to_char(s.wake_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), watchbell.span(t.now - o.since))
            else format('it was changed %s ago and no worker has planned it (limit 1m)', watchbell.span(t.now - o.since)) end
       || '; usually a session holds its row locked' as reason,
       'SELECT pid, usename, xact_start, query FROM pg_stat_activity '
       || 'WHERE datname = current_database() AND xact_start < now() - interval ''1 minute''' as command
from t
cross join watchbell.schedules s
cross join lateral (select case when isfinite(s.wake_at) then s.wake_at else s.updated_at end as since) o
where t.alive and s.paused_at is null and s.wake_at < watchbell.clock() - interval '1 minute'
  and o.since < t.now - interval '1 minute'
union all
select 'critical', 'failing', 'schedule', s.name, coalesce(s.last_success_at, s.created_at),
       format('it failed %s times in a row (limit 2)%s', s.consecutive_failures,
              case when s.last_success_at is null then ' and never succeeded' else '' end),
       format('watchbell runs list --schedule %s --status failed', s.name)
from watchbell.schedules s
where s.consecutive_failures >= 3 and s.paused_at is null
union all
select 'critical', 'paused_by_failures', 'schedule', s.name, s.paused_at,
       format('it was %s (its pause_after_failures is %s)', s.pause_note, s.pause_after_failures),
       format('watchbell schedule resume %s', s.name)
from watchbell.schedules s
where s.paused_at is not null and s.paused_by = 'watchbell' and s.pause_note like 'paused after %'
union all
select 'warning', 'paused', 'schedule', s.name, s.paused_at,
       format('it has been paused for %s by %s (limit 7d)%s', watchbell.span(t.now - s.paused_at),
              coalesce(s.paused_by, 'somebody'), ': ' || nullif(left(s.pause_note, 200), '')),
       format('watchbell schedule resume %s', s.name)
from t cross join watchbell.schedules s
where s.paused_at < t.now - interval '7 days' and coalesce(s.paused_until, 'infinity') = 'infinity'
  and (s.paused_by is distinct from 'watchbell' or s.pause_note not like 'paused after %')
union all
select 'critical', 'invalid', 'schedule', s.name, s.updated_at,
       'it will never fire: ' || coalesce(s.error, 'no reason was recorded'), format('watchbell schedule show %s', s.name)
from watchbell.schedules s
where s.status = 'invalid' and s.paused_at is null
union all
select 'warning', 'never_fired', 'schedule', s.name, s.updated_at,
       'it is done and has made no run: its time was over, or was missed by a policy that skips; edit it or delete it',
       format('watchbell schedule delete %s', s.name)
from watchbell.schedules s
where s.status = 'done' and s.fires_count = 0 and s.paused_at is null
union all
select 'critical', 'too_many_open', 'schedule', s.name, n.since,
       '100 of its runs are open, which is the limit under overlap allow: further fire times make no run',
       format('watchbell schedule edit %s --overlap skip', s.name)
from open o
cross join lateral (select s.id, s.name from watchbell.schedules s where s.id = o.id and s.overlap = 'allow' limit 1) s
cross join lateral (
    select count(*) as runs, max(x.created_at) as since
    from (select r.created_at from watchbell.runs_live r
          where r.schedule_id = s.id and r.trigger in ('schedule', 'catch_up') limit 100) x
) n
where n.runs >= 100;

create view watchbell.attention_runs as
with recursive t as materialized (
    select watchbell.clock() as now
), live as materialized (
    select w.handlers, w.queues, w.labels from watchbell.workers w
    where w.state in ('starting', 'running') and w.lease_until > watchbell.clock()
), lanes (queue, priority) as (
    (select r.queue, r.priority from watchbell.runs_live r
     where r.concurrency_key is null order by r.queue, r.priority limit 1)
    union all
    select n.queue, n.priority
    from lanes l
    cross join lateral (
        select r.queue, r.priority from watchbell.runs_live r
        where r.concurrency_key is null and (r.queue, r.priority) > (l.queue, l.priority)
        order by r.queue, r.priority limit 1
    ) n
), keys (key, n) as (
    (select r.concurrency_key, 1 from watchbell.runs_live r
     where r.concurrency_key is not null order by r.concurrency_key limit 1)
    union all
    select (select r.concurrency_key from watchbell.runs_live r
            where r.concurrency_key is not null and r.concurrency_key > k.key order by r.concurrency_key limit 1), k.n + 1
    from keys k where k.key is not null and k.n < 1000
), heads as materialized (
    -- Claims take the oldest of a lane first: what nobody takes, and what does not end, is left at its head.
    (select r.id, r.status, r.handler, r.queue, r.target, r.run_at, r.started_at, r.timeout, r.claimed_by
     from lanes l
     cross join lateral (
        select r.id, r.status, r.handler, r.queue, r.target, r.run_at, r.started_at, r.timeout, r.claimed_by
        from watchbell.runs_live r
        where r.queue = l.queue and r.priority = l.priority and r.concurrency_key is null
          and r.run_at < watchbell.clock() - interval '1 minute'
        order by r.run_at, r.id limit 500) r
     limit 20000)
    union all
    (select r.id, r.status, r.handler, r.queue, r.target, r.run_at, r.started_at, r.timeout, r.claimed_by
     from keys k
     cross join lateral (
        -- A range where an equality would do: so the planner goes by the order of the index, and stops at the limit.
        select r.id, r.status, r.handler, r.queue, r.target, r.run_at, r.started_at, r.timeout, r.claimed_by
        from watchbell.runs_live r
        where r.concurrency_key >= k.key and r.concurrency_key <= k.key
        order by r.concurrency_key, r.priority, r.run_at, r.id
        limit 100) r
     where r.run_at < watchbell.clock() - interval '1 minute'
     limit 20000)
), scheduled (handler, queue, target) as (
    (select s.handler, s.queue, coalesce(s.target, '') from watchbell.schedules s
     where s.paused_at is null and s.status in ('pending', 'normal')
     order by s.handler, s.queue, coalesce(s.target, '') limit 1)
    union all
    select n.handler, n.queue, n.target
    from scheduled d
    cross join lateral (
        select s.handler, s.queue, coalesce(s.target, '') as target from watchbell.schedules s
        where s.paused_at is null and s.status in ('pending', 'normal')
          and (s.handler, s.queue, coalesce(s.target, '')) > (d.handler, d.queue, d.target)
        order by s.handler, s.queue, coalesce(s.target, '') limit 1
    ) n
), wanted as (
    select x.handler, x.queue, x.target, sum(x.runs) as runs, min(x.since) as since, bool_or(x.scheduled) as scheduled
    from (select h.handler, h.queue, coalesce(h.target, '') as target, count(*) as runs, min(h.run_at) as since,
                 false as scheduled
          from heads h where h.status = 'pending' group by h.handler, h.queue, coalesce(h.target, '')
          union all
          select d.handler, d.queue, d.target, 0, null, true from scheduled d) x
    group by x.handler, x.queue, x.target
), unserved as (
    select d.handler, d.queue, d.target, d.runs, d.since, d.scheduled, s.by_handler, s.by_queue
    from wanted d
    cross join lateral (
        select coalesce(bool_or(d.handler = any (w.handlers)), false) as by_handler,
               coalesce(bool_or(d.handler = any (w.handlers) and o.serves), false) as by_queue,
               coalesce(bool_or(d.handler = any (w.handlers) and o.serves and o.matches), false) as served
        from live w
        cross join lateral (
            select w.queues is null or d.queue = any (w.queues) as serves,
                   -- a target that is no label pair is not for one worker to match
                   d.target not like '%=%' or string_to_array(d.target, ',') <@ w.labels as matches
        ) o
    ) s
    where not s.served and exists (select from live)
      and not exists (select from watchbell.queues q where q.name = d.queue and q.paused_at is not null)
)
select case when u.runs > 0 then 'critical' else 'warning' end as severity,
       case when not u.by_handler then 'unserved_handler' when not u.by_queue then 'unserved_queue'
            else 'unserved_target' end as kind,
       case when u.by_handler and not u.by_queue then 'queue' when u.by_handler and s.name is not null then 'schedule'
            else 'handler' end as subject_kind,
       case when u.by_handler and not u.by_queue then u.queue when u.by_handler and s.name is not null then s.name
            else u.handler end::text as subject,
       case when isfinite(u.since) then u.since end as since,
       case when not u.by_handler and not exists (select from watchbell.handlers k where k.name = u.handler)
                then format('no worker has ever registered handler "%s"', u.handler)
            when not u.by_handler then format('no live worker has handler "%s"', u.handler)
            when not u.by_queue then format('no live worker with handler "%s" serves queue "%s"', u.handler, u.queue)
            else format('no live worker with handler "%s" for queue "%s" has the labels %s', u.handler, u.queue, u.target) end
       || case when u.runs > 0
               then format('; %s due runs wait%s (limit 1m)', case when u.runs >= 500 then 'at least 500' else u.runs::text end,
                           ', the oldest for ' || watchbell.span(t.now - case when isfinite(u.since) then u.since end))
               else '' end
       || case when s.name is not null
               then format('; wanted by %s, "%s" first', case when s.n = 1 then '1 schedule' when s.n >= 100 then 'at least 100 schedules'
                                                             else s.n || ' schedules' end, s.name)
               else '' end as reason,
       case when not u.by_handler and u.handler in ('shell', 'http', 'sql') then 'watchbell worker run --enable-' || u.handler
            when not u.by_handler then 'watchbell handlers list --unserved'
            when not u.by_queue then 'watchbell worker run --queues ' || u.queue
            else 'watchbell worker run --labels '
                 || case when u.target ~ '^[A-Za-z0-9=,._/:-]+$' then u.target
                         else '''' || replace(u.target, '''', '''\''''') || '''' end end as command
from t
cross join unserved u
cross join lateral (
    select min(x.name) as name, count(*) as n
    from (select s.name from watchbell.schedules s
          where u.scheduled and s.paused_at is null and s.status in ('pending', 'normal')
            and s.handler = u.handler and s.queue = u.queue and coalesce(s.target, '') = u.target limit 100) x
) s
union all
(select 'critical', 'stuck', 'run', h.id::text, h.started_at + h.timeout,
        format('it has run for %s, beyond its timeout of %s: its handler "%s" does not stop; worker "%s" (process %s on %s) has it',
               watchbell.span(t.now - h.started_at), watchbell.span(h.timeout), h.handler, w.name, w.pid, w.host),
        format('watchbell workers drain %s', w.id)
 from t
 cross join heads h
 join watchbell.workers w on w.id = h.claimed_by and w.lease_until > t.now
 where h.status = 'running' and h.started_at + h.timeout < t.now - interval '1 minute'
 order by h.started_at + h.timeout limit 100)
union all
select 'warning', 'paused', 'queue', q.name, q.paused_at,
       format('it has been paused for %s by %s (limit 7d)%s', watchbell.span(t.now - q.paused_at),
              coalesce(q.paused_by, 'somebody'), ': ' || nullif(left(q.pause_note, 200), '')),
       format('watchbell queue resume %s', q.name)
from t cross join watchbell.queues q
where q.paused_at < t.now - interval '7 days';

create view watchbell.attention_workers as
with t as materialized (
    select watchbell.clock() as now, (select max(m.min_build) from watchbell.migrations m) as asked
), open as materialized (
    select w.id, w.name, w.host, w.pid, w.state, w.heartbeat_at, w.lease_until, w.clock_skew, w.draining_until,
           w.schema_version, w.lease_until > t.now as alive
    from t cross join watchbell.workers w
    where w.state in ('starting', 'running', 'draining')
)
select 'critical' as severity, 'no_worker' as kind, 'database' as subject_kind, current_database()::text as subject,
       (select max(w.heartbeat_at) from watchbell.workers w) as since,
       'no live worker: nothing fires and nothing runs' as reason, 'watchbell worker run' as command
where not exists (select from open o where o.alive and o.state <> 'draining')
union all
select case when o.alive then 'warning' else 'critical' end, 'silent', 'worker', o.name, o.heartbeat_at,
       format('worker %s (process %s on %s) was last heard of %s ago (limit 5s)%s', o.id, o.pid, o.host,
              watchbell.span(t.now - o.heartbeat_at),
              case when o.alive then '' else '; its lease is over and no other worker has taken its runs' end),
       case when o.alive then format('watchbell workers show %s', o.id) else 'watchbell worker run' end
from t cross join open o
where o.heartbeat_at < t.now - interval '5 seconds'
union all
select 'warning', 'draining', 'worker', o.name, o.draining_until,
       format('worker %s should have stopped %s ago, by its drain timeout (limit 1m more): end process %s on %s', o.id,
              watchbell.span(t.now - o.draining_until), o.pid, o.host),
       format('watchbell workers show %s', o.id)
from t cross join open o
where o.alive and o.state = 'draining' and o.draining_until < t.now - interval '1 minute'
union all
-- What recorded an expired lease. Rows of workers that ended stay for 7 days.
select 'warning', 'died', 'worker', (array_agg(w.name order by w.ended_at desc))[1], max(w.ended_at),
       case when count(*) = 1
            then format('worker %s (process %s on %s) died %s ago; others took its runs back', max(w.id), max(w.pid), w.host,
                        watchbell.span(t.now - max(w.ended_at)))
            else format('%s workers on %s died within the last hour, worker %s (process %s) %s ago; others took their runs back',
                        count(*), w.host, (array_agg(w.id order by w.ended_at desc))[1],
                        (array_agg(w.pid order by w.ended_at desc))[1], watchbell.span(t.now - max(w.ended_at))) end,
       'watchbell workers list --all'
from t cross join watchbell.workers w
where w.state = 'dead' and w.ended_at > t.now - interval '1 hour'
group by w.host, t.now
union all
select 'warning', 'clock_skew', 'worker', o.name, null,
       format('the clock of worker %s on %s is %s %s the database''s (limit 2s)', o.id, o.host,
              watchbell.span(greatest(o.clock_skew, -o.clock_skew)),
              case when o.clock_skew > interval '0' then 'ahead of' else 'behind' end),
       'SELECT id, name, host, clock_skew FROM watchbell.workers WHERE ended_at IS NULL'
from open o
where o.alive and greatest(o.clock_skew, -o.clock_skew) > interval '2 seconds'
union all
select 'critical', 'outdated', 'worker', o.name, null,
       format('worker %s on %s knows schema version %s, and the schema asks for %s', o.id, o.host, o.schema_version, t.asked),
       format('watchbell workers drain %s', o.id)
from t cross join open o
where o.alive and o.schema_version < t.asked;

create view watchbell.attention_watches as
with t as materialized (
    select watchbell.clock() as now
)
select 'critical' as severity, 'invalid' as kind, 'watch' as subject_kind, w.name::text as subject, w.updated_at as since,
       'no row of it is taken: ' || coalesce(w.error, 'no reason was recorded') as reason,
       format('UPDATE watchbell.watches SET wake_at = ''-infinity'' WHERE name = %L', w.name) as command
from watchbell.watches w
where w.status = 'invalid' and w.paused_at is null
union all
select 'warning', 'paused', 'watch', w.name, w.paused_at,
       format('it has been paused for %s by %s (limit 7d)%s', watchbell.span(t.now - w.paused_at),
              coalesce(w.paused_by, 'somebody'), ': ' || nullif(left(w.pause_note, 200), '')),
       format('UPDATE watchbell.watches SET paused_at = NULL WHERE name = %L', w.name)
from t cross join watchbell.watches w
where w.paused_at < t.now - interval '7 days' and coalesce(w.paused_until, 'infinity') = 'infinity';

-- Sessions of other roles are seen only by members of pg_read_all_stats.
create view watchbell.attention_database as
with t as materialized (
    select watchbell.clock() as now, (watchbell.clock() at time zone 'UTC')::date as today,
           (select min(w.retention) from watchbell.workers w
            where w.state in ('starting', 'running') and w.lease_until > watchbell.clock()) as retention
), days as materialized (
    select i.inhparent::regclass::text as parent, c.relname::text as partition,
           (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' as over
    from unnest(watchbell.day_parents()) p
    join pg_catalog.pg_inherits i on i.inhparent = to_regclass('watchbell.' || p)
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where c.relname ~ '_[0-9]{8}$'
)
select 'critical' as severity, 'day_missing' as kind, 'database' as subject_kind, current_database()::text as subject,
       null::timestamptz as since,
       format('table watchbell.%s has no partition for %s, and workers could not make it (limit 2 days ahead)', p, m.day) as reason,
       'SELECT count(*) FROM watchbell.make_days()' as command
from t
cross join unnest(watchbell.day_parents()) p
cross join lateral (
    select min(t.today + i) as day from generate_series(0, 2) i
    where to_regclass('watchbell.' || p || to_char(t.today + i, '"_"YYYYMMDD')) is null
) m
where m.day is not null
union all
select 'warning', 'day_not_dropped', 'database', current_database(), min(d.over) + t.retention,
       format('%s partitions of %s, %s first, are kept beyond the retention of %s (limit 1d more): somebody reads them',
              count(*), d.parent, min(d.partition), watchbell.span(t.retention)),
       format('SELECT partition, problem FROM watchbell.drop_days(%L, %L)', t.retention, split_part(d.parent, '.', -1))
from t cross join days d
where d.over < t.now - t.retention - interval '1 day'
group by d.parent, t.retention
union all
select 'warning', 'old_snapshot', 'database', current_database(), a.xact_start,
       format('session %s of %s (%s) has had a transaction open for %s (limit 1h): vacuum cannot clean up what changed since',
              a.pid, a.usename, coalesce(nullif(a.application_name, ''), a.state), watchbell.span(t.now - a.xact_start)),
       format('SELECT pg_terminate_backend(%s)', a.pid)
from t cross join pg_catalog.pg_stat_activity a
where a.datname = current_database() and a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
  and (a.backend_xmin is not null or a.backend_xid is not null) and a.xact_start < t.now - interval '1 hour'
union all
select 'warning', 'old_snapshot', 'database', current_database(), x.prepared,
       format('the prepared transaction "%s" of %s has been open for %s (limit 1h): vacuum cannot clean up what changed since',
              x.gid, x.owner, watchbell.span(t.now - x.prepared)),
       format('ROLLBACK PREPARED %L', x.gid)
from t cross join pg_catalog.pg_prepared_xacts x
where x.database = current_database() and x.prepared < t.now - interval '1 hour'
union all
select case when age(d.datfrozenxid) > 1600000000 then 'critical' else 'warning' end, 'wraparound', 'database', d.datname, null,
       format('its oldest transaction is %s transactions old (limit 1000000000; at 2100000000 the server stops)', age(d.datfrozenxid)),
       'VACUUM (FREEZE)'
from pg_catalog.pg_database d
where d.datname = current_database() and age(d.datfrozenxid) > 1000000000;

create view watchbell.attention as
select a.severity, a.kind, a.subject_kind, a.subject, a.since, a.reason, a.command
from (select severity, kind, subject_kind, subject, since, reason, command from watchbell.attention_workers
      union all
      select severity, kind, subject_kind, subject, since, reason, command from watchbell.attention_schedules
      union all
      select severity, kind, subject_kind, subject, since, reason, command from watchbell.attention_runs
      union all
      select severity, kind, subject_kind, subject, since, reason, command from watchbell.attention_watches
      union all
      select severity, kind, subject_kind, subject, since, reason, command from watchbell.attention_database) a
order by a.severity, a.since, a.kind, a.subject;

comment on function watchbell.span(interval) is 'A length of time for people: 45s, 5m10s, 2h, 3d4h.';
comment on view watchbell.attention is 'What needs a person, the worst first: one row each, with the reason and the command to run next.';
comment on view watchbell.attention_schedules is 'Of attention: schedules that are overdue, failing, invalid, paused for long, done without a run, or at their ceiling.';
comment on view watchbell.attention_runs is 'Of attention: runs and schedules that no live worker serves, runs beyond their timeout, queues paused for long.';
comment on view watchbell.attention_workers is 'Of attention: no live worker; workers that are silent, died, do not end, are outdated or whose clock is off.';
comment on view watchbell.attention_watches is 'Of attention: watches that are invalid or paused for long.';
comment on view watchbell.attention_database is 'Of attention: days that are missing or not dropped, transactions that hold up vacuum, wraparound.';
do $$
declare
    part text;
    said text[];
begin
    foreach part in array '{attention,attention_schedules,attention_runs,attention_workers,attention_watches,attention_database}'::text[] loop
        foreach said slice 1 in array array[
            ['severity', 'critical (work is not done) or warning (it soon may not be).'],
            ['kind', 'What is the matter, a word for programs: overdue, failing, no_worker and so on.'],
            ['subject_kind', 'What it is about: schedule, queue, run, worker, handler, watch or database.'],
            ['subject', 'Its name; of a run its number.'],
            ['since', 'Since when; NULL where that is not known.'],
            ['reason', 'One sentence with the value and the limit.'],
            ['command', 'What to run next: a line of the command line, or a statement in SQL.']
        ] loop
            execute format('comment on column watchbell.%I.%I is %L', part, said[1], said[2]);
        end loop;
    end loop;
end $$;

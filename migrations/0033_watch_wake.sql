-- What needs a person, continued: crash loops, doubts about time zones, targets of whole fleets, and watches that no
-- live worker can work. And a wake-up of its own for watched tables.

create index schedules_doubts on watchbell.schedules (id) where crash_loop_since is not null or tz_mismatch is not null;

-- As in 0029, with the two doubts. What loops is not told a second time because it also fails.
create or replace view watchbell.attention_schedules as
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
where s.consecutive_failures >= 3 and s.paused_at is null and s.crash_loop_since is null
union all
select 'critical', 'crash_loop', 'schedule', s.name, s.crash_loop_since,
       format('a copy of it ended within a minute of its start %s times in a row (limit 4)', c.restarts),
       format('watchbell runs list --schedule %s', s.name)
from watchbell.schedules s
cross join lateral (
    select coalesce(max(x.restarts), 0) as restarts from watchbell.copies x where x.schedule_id = s.id) c
where s.crash_loop_since is not null and s.paused_at is null
union all
select 'warning', 'tz_mismatch', 'schedule', s.name, null, s.tz_mismatch, format('watchbell schedule show %s', s.name)
from watchbell.schedules s
where s.tz_mismatch is not null and s.paused_at is null
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

-- As in 0029. A run that was made for one worker is aimed at its number, which is no label of that worker.
create or replace view watchbell.attention_runs as
with recursive t as materialized (
    select watchbell.clock() as now
), live as materialized (
    select w.handlers, w.queues, w.labels || ('worker=' || w.id) as labels from watchbell.workers w
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
    select d.handler, d.queue, d.target, a.labels, d.runs, d.since, d.scheduled, s.by_handler, s.by_queue
    from wanted d
    -- all is every worker, all:zone=eu each of those with the label
    cross join lateral (select case when d.target ~ '^all(:|$)' then substr(d.target, 5) else d.target end as labels) a
    cross join lateral (
        select coalesce(bool_or(d.handler = any (w.handlers)), false) as by_handler,
               coalesce(bool_or(d.handler = any (w.handlers) and o.serves), false) as by_queue,
               coalesce(bool_or(d.handler = any (w.handlers) and o.serves and o.matches), false) as served
        from live w
        cross join lateral (
            select w.queues is null or d.queue = any (w.queues) as serves,
                   -- a target that is no label pair is not for one worker to match
                   a.labels not like '%=%' or string_to_array(a.labels, ',') <@ w.labels as matches
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
            else format('no live worker with handler "%s" for queue "%s" has the labels %s', u.handler, u.queue, u.labels) end
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
                 || case when u.labels ~ '^[A-Za-z0-9=,._/:-]+$' then u.labels
                         else '''' || replace(u.labels, '''', '''\''''') || '''' end end as command
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

-- The rows of a watched table are not read here: who looks may have no right to them. So a step that nobody works is
-- told whether rows wait or not.
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
  and not exists (select from live l where h.handler = any (l.handlers));

comment on view watchbell.attention_schedules is 'Of attention: schedules that are overdue, failing, in a crash loop, invalid, paused for long, done without a run, at their ceiling, or with a doubtful time zone.';
comment on view watchbell.attention_watches is 'Of attention: watches that are invalid, paused for long, or without a worker for one of their steps.';

-- Wake-up. Runs and rows come at different times: a worker that is busy with runs sleeps as to its watches. So each
-- watched table has a mark of its own, and stripes that the senders of 0009 cannot hold.
create table watchbell.watch_sleepers (
    relation       oid primary key,
    sleepers_until timestamptz not null
) with (fillfactor = 50);
comment on table watchbell.watch_sleepers is 'Watched tables whose new rows some worker sleeps for. A row stays when its watch is gone.';
comment on column watchbell.watch_sleepers.relation is 'The table.';
comment on column watchbell.watch_sleepers.sleepers_until is 'Until when some worker may be asleep and wants to be woken by a NOTIFY. Written by workers.';

create or replace function watchbell.watch_changed() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if exists (select from watchbell.watch_sleepers s
               where s.relation = tg_relid and s.sleepers_until > clock_timestamp()) then
        if pg_try_advisory_xact_lock(x'7764'::integer, pg_backend_pid() % 8) then
            perform pg_notify('watchbell', 'watches');
        end if;
    end if;
    return null;
end $$;

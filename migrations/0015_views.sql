-- What people and programs read: plain columns that stay, times that are a time or NULL, no payloads.

create view watchbell.running as
select r.id, r.handler, r.queue, r.schedule_name, r.trigger, r.priority, r.attempt, r.max_attempts, r.started_at,
       now() - r.started_at as running_for, r.started_at + r.timeout as times_out_at,
       r.claimed_by as worker_id, w.name as worker, w.host,
       (select min(q.requested_at) from watchbell.worker_requests q where q.run_id = r.id) as cancel_requested_at
from watchbell.runs_live r
left join watchbell.workers w on w.id = r.claimed_by
where r.status = 'running';

comment on view watchbell.running is 'Runs that are being executed now.';
comment on column watchbell.running.id is 'Number of the run.';
comment on column watchbell.running.handler is 'What does the work.';
comment on column watchbell.running.queue is 'Its queue.';
comment on column watchbell.running.schedule_name is 'The schedule it belongs to, if any.';
comment on column watchbell.running.trigger is 'What made it: enqueue, schedule, catch_up, run_now, backfill or retry.';
comment on column watchbell.running.priority is '0 runs first, 9 last.';
comment on column watchbell.running.attempt is 'Which try this is, from 1 on.';
comment on column watchbell.running.max_attempts is 'How many tries it has.';
comment on column watchbell.running.started_at is 'When this attempt started.';
comment on column watchbell.running.running_for is 'How long this attempt has run.';
comment on column watchbell.running.times_out_at is 'When this attempt is stopped; NULL is never.';
comment on column watchbell.running.worker_id is 'Number of the worker that executes it.';
comment on column watchbell.running.worker is 'Name of that worker.';
comment on column watchbell.running.host is 'Host of that worker.';
comment on column watchbell.running.cancel_requested_at is 'When someone asked to cancel it.';

create view watchbell.recent_failures as
select f.id, f.handler, f.queue, f.schedule_name, f.trigger, f.attempt, f.crashes, f.started_at, f.finished_at,
       f.error, coalesce((select min(r.id) from watchbell.runs_live r where r.retry_of = f.id),
                         (select min(r.id) from watchbell.runs_finished r where r.retry_of = f.id)) as retried_as
from watchbell.runs_finished f
where f.status = 'failed' and f.finished_at > now() - interval '7 days'
order by f.finished_at desc
limit 1000;

comment on view watchbell.recent_failures is 'Runs that ended as failed in the last 7 days, the newest first, at most 1,000.';
comment on column watchbell.recent_failures.id is 'Number of the run.';
comment on column watchbell.recent_failures.handler is 'What did the work.';
comment on column watchbell.recent_failures.queue is 'Its queue.';
comment on column watchbell.recent_failures.schedule_name is 'The schedule it belonged to, if any.';
comment on column watchbell.recent_failures.trigger is 'What made it.';
comment on column watchbell.recent_failures.attempt is 'How often it was tried.';
comment on column watchbell.recent_failures.crashes is 'How often its worker died over it.';
comment on column watchbell.recent_failures.started_at is 'When its last attempt started; NULL if none did.';
comment on column watchbell.recent_failures.finished_at is 'When it ended.';
comment on column watchbell.recent_failures.error is 'Why the last attempt failed; the others are in run_errors.';
comment on column watchbell.recent_failures.retried_as is 'The run that was made to try it again, if any.';

-- At most 10,000 rows of each queue are looked at, or a backlog would make this view slow when it is needed.
create view watchbell.queue_status as
select q.name as queue, q.paused_at, q.paused_by, q.pause_note, n.ready, n.later, n.running, n.capped,
       o.run_at as oldest_ready_at, now() - o.run_at as oldest_waits_for
from watchbell.queues q
cross join lateral (
    select count(*) filter (where x.status = 'pending' and x.run_at <= now()) as ready,
           count(*) filter (where x.status = 'pending' and x.run_at > now()) as later,
           count(*) filter (where x.status = 'running') as running,
           count(*) > 10000 as capped,
           min(x.run_at) filter (where x.status = 'pending' and x.run_at <= now()) as oldest
    from (select r.status, r.run_at from watchbell.runs_live r where r.queue = q.name limit 10001) x
) n
cross join lateral (
    -- The oldest of each priority stands at the head of its lane, whatever was counted.
    select least(n.oldest, min(h.run_at)) as run_at
    from generate_series(0, 9) p,
         lateral (select r.run_at from watchbell.runs_live r
                  where r.queue = q.name and r.priority = p and r.concurrency_key is null and r.status = 'pending'
                    and r.run_at <= now()
                  order by r.run_at limit 1) h
) o;

comment on view watchbell.queue_status is 'Each queue: whether it is paused, and what waits in it.';
comment on column watchbell.queue_status.queue is 'Name of the queue.';
comment on column watchbell.queue_status.paused_at is 'Since when no run of it is started.';
comment on column watchbell.queue_status.paused_by is 'Who paused it.';
comment on column watchbell.queue_status.pause_note is 'Why it is paused.';
comment on column watchbell.queue_status.ready is 'Runs that are due and wait.';
comment on column watchbell.queue_status.later is 'Runs that are not due yet.';
comment on column watchbell.queue_status.running is 'Runs that are being executed.';
comment on column watchbell.queue_status.capped is 'There are more than 10,000 open runs, of which only so many were counted.';
comment on column watchbell.queue_status.oldest_ready_at is 'When the run that waits longest was due.';
comment on column watchbell.queue_status.oldest_waits_for is 'How long it has waited.';

create view watchbell.worker_status as
select w.id, w.name, w.host, w.ip, w.pid, w.version, w.state, w.slots, coalesce(r.n, 0) as running, w.queues,
       w.handlers, w.labels, w.started_at, w.heartbeat_at, now() - w.heartbeat_at as heartbeat_age, w.lease_until,
       (select max(q.requested_at) from watchbell.worker_requests q
        where q.worker_id = w.id and q.request = 'drain') as drain_requested_at,
       w.ended_at
from watchbell.workers w
left join (select l.claimed_by, count(*) as n from watchbell.runs_live l where l.claimed_by is not null
           group by l.claimed_by) r on r.claimed_by = w.id;

comment on view watchbell.worker_status is 'Each worker process, also those that ended in the last 7 days.';
comment on column watchbell.worker_status.id is 'Number of the worker, a new one at each start.';
comment on column watchbell.worker_status.name is 'Its name: host and process unless configured.';
comment on column watchbell.worker_status.host is 'Its host.';
comment on column watchbell.worker_status.ip is 'The address it reaches the database from, where known.';
comment on column watchbell.worker_status.pid is 'Its process id on its host.';
comment on column watchbell.worker_status.version is 'The version of watchbell in it.';
comment on column watchbell.worker_status.state is 'starting, running, draining (it ends), stopped (in good order) or dead.';
comment on column watchbell.worker_status.slots is 'How many runs it executes at once.';
comment on column watchbell.worker_status.running is 'How many runs it has.';
comment on column watchbell.worker_status.queues is 'Queues it serves; NULL is all.';
comment on column watchbell.worker_status.handlers is 'Handlers it has.';
comment on column watchbell.worker_status.labels is 'Its labels, for runs with a target.';
comment on column watchbell.worker_status.started_at is 'When it registered.';
comment on column watchbell.worker_status.heartbeat_at is 'When it was last heard of; it speaks once a second.';
comment on column watchbell.worker_status.heartbeat_age is 'How long ago that is.';
comment on column watchbell.worker_status.lease_until is 'Until when it keeps its runs without another word.';
comment on column watchbell.worker_status.drain_requested_at is 'When someone asked it to drain.';
comment on column watchbell.worker_status.ended_at is 'When it stopped or was declared dead.';

create view watchbell.schedule_history as
select s.name as schedule_name, f.schedule_id, f.fire_at, f.disposition, f.until, f.missed, f.decided_at, f.run_id,
       r.status, r.trigger, r.attempt, r.started_at, r.finished_at, r.finished_at - r.started_at as duration,
       r.started_at - f.fire_at as started_late, r.error
from watchbell.fires f
join watchbell.schedules s on s.id = f.schedule_id
left join watchbell.runs r on r.id = f.run_id;

comment on view watchbell.schedule_history is 'Each fire time of each schedule, and what became of it. Filter by schedule_name and fire_at.';
comment on column watchbell.schedule_history.schedule_name is 'Name of the schedule.';
comment on column watchbell.schedule_history.schedule_id is 'Number of the schedule.';
comment on column watchbell.schedule_history.fire_at is 'The fire time; of a gap the first.';
comment on column watchbell.schedule_history.disposition is 'What was decided: run, caught_up, queued, skipped_overlap, skipped_misfire, coalesced, expired, skipped_by_request or backfilled.';
comment on column watchbell.schedule_history.until is 'The last fire time of a gap of two or more.';
comment on column watchbell.schedule_history.missed is 'How many fire times it stands for that made no run.';
comment on column watchbell.schedule_history.decided_at is 'When that was decided.';
comment on column watchbell.schedule_history.run_id is 'The run that was made; for a skipped one, the backfill''s.';
comment on column watchbell.schedule_history.status is 'Where that run stands; NULL also when it is older than the retention.';
comment on column watchbell.schedule_history.trigger is 'What made that run: schedule, catch_up or backfill.';
comment on column watchbell.schedule_history.attempt is 'How often it was tried.';
comment on column watchbell.schedule_history.started_at is 'When its last attempt started.';
comment on column watchbell.schedule_history.finished_at is 'When it ended.';
comment on column watchbell.schedule_history.duration is 'How long its last attempt took.';
comment on column watchbell.schedule_history.started_late is 'How long after the fire time its last attempt started.';
comment on column watchbell.schedule_history.error is 'Why it failed.';

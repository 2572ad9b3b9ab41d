-- Functions that end a run from outside a worker. Lock order, as everywhere: schedule, then run.

-- A run of a schedule has ended at `at`: what the schedule remembers of it, and the next time of a fixed delay, in
-- elapsed seconds (a day is 24 hours whatever the session's zone does). The caller holds the schedule's lock.
create function watchbell.schedule_ended(run watchbell.runs_live, ended_as text, at timestamptz) returns void
language sql set search_path = watchbell, pg_temp
begin atomic
    with planned as (
        select case when n.at >= s.ends_at or s.fires_count >= s.max_fires then 'infinity' else n.at end as wake_at
        from watchbell.schedules s,
             lateral (select greatest(at + make_interval(secs => extract(epoch from s.fixed_delay)::double precision),
                                  s.last_fire_at + interval '1 microsecond') as at) n
        where s.id = run.schedule_id and run.trigger = 'schedule'
          and s.kind = 'fixed_delay' and s.status = 'normal' and s.wake_at = 'infinity'
    )
    update watchbell.schedules s
    set last_status = ended_as,
        last_finished_at = at,
        last_started_at = greatest(s.last_started_at, run.started_at),
        last_duration = coalesce(at - run.started_at, s.last_duration),
        last_success_at = case when ended_as = 'normal' then at else s.last_success_at end,
        consecutive_failures = case when ended_as = 'normal' then 0 else s.consecutive_failures end,
        wake_at = coalesce((select p.wake_at from planned p), s.wake_at),
        status = case when (select p.wake_at from planned p) = 'infinity' then 'done' else s.status end
    where s.id = run.schedule_id;
end;

create function watchbell.move_to_finished(run watchbell.runs_live, ended_as text, error text, at timestamptz)
returns void language sql set search_path = watchbell, pg_temp
begin atomic
    insert into watchbell.runs_finished (
        id, run_at, created_at, started_at, finished_at, fence, claimed_by, attempt, priority, max_attempts, crashes,
        status, trigger, queue, handler, payload, timeout, retry, start_deadline, unique_key, concurrency_key, target,
        tags, error, schedule_id, schedule_name, fire_at, retry_of, created_by)
    values (
        run.id, run.run_at, run.created_at, run.started_at, at, run.fence, run.claimed_by, run.attempt, run.priority,
        run.max_attempts, run.crashes, ended_as, run.trigger, run.queue, run.handler, run.payload, run.timeout,
        run.retry, run.start_deadline, run.unique_key, run.concurrency_key, run.target, run.tags, error,
        run.schedule_id, run.schedule_name, run.fire_at, run.retry_of, run.created_by);
end;

-- Cancels a run. 'cancelled': it was waiting and is over. 'requested': it runs, and its worker has been asked to
-- stop it. 'finished': it was over already. An unknown id is an error.
create function watchbell.cancel(run_id bigint, reason text default null) returns text
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    run watchbell.runs_live;
    at timestamptz;
begin
    loop
        select r.* into run from watchbell.runs_live r where r.id = cancel.run_id;
        if not found then
            exit;
        elsif run.status = 'running' then
            insert into watchbell.worker_requests (request, run_id, reason)
            select 'cancel', run.id, cancel.reason
            where not exists (select from watchbell.worker_requests q
                              where q.run_id = run.id and q.request = 'cancel' and q.handled_at is null);
            return 'requested';
        end if;
        perform from watchbell.schedules s where s.id = run.schedule_id for no key update;
        delete from watchbell.runs_live r where r.id = run.id and r.status = 'pending' returning r.* into run;
        if found then
            at := watchbell.instant();
            perform watchbell.move_to_finished(run, 'cancelled',
                'cancelled by ' || session_user || coalesce(': ' || nullif(left(cancel.reason, 1000), ''), ''), at);
            perform watchbell.schedule_ended(run, 'cancelled', at);
            return 'cancelled';
        end if;
        -- A worker claimed or another session cancelled it meanwhile: look again.
    end loop;
    if exists (select from watchbell.runs_finished f where f.id = cancel.run_id) then
        return 'finished';
    end if;
    raise exception using errcode = 'P0002', schema = 'watchbell', table = 'runs', column = 'id',
        message = format('run %s does not exist', coalesce(cancel.run_id::text, 'NULL')),
        hint = 'List runs with: SELECT id, status, handler FROM watchbell.runs ORDER BY id DESC LIMIT 20;';
end $$;

-- Ends a running run as normal inside the caller's transaction, so that a handler's effects and the end of its
-- run are one commit. False when the run is no longer the caller's: then roll the effects back.
create function watchbell.finish_run(run_id bigint, fence bigint, worker_id integer) returns boolean
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    run watchbell.runs_live;
    at timestamptz;
begin
    perform from watchbell.schedules s
    where s.id = (select r.schedule_id from watchbell.runs_live r where r.id = finish_run.run_id) for no key update;
    delete from watchbell.runs_live r
    where r.id = finish_run.run_id and r.fence = finish_run.fence and r.claimed_by = finish_run.worker_id
    returning r.* into run;
    if not found then
        return false;
    end if;
    at := watchbell.instant();
    perform watchbell.move_to_finished(run, 'normal', null, at);
    update watchbell.limits l set running = l.running - 1 where l.key = run.concurrency_key and l.running > 0;
    perform watchbell.schedule_ended(run, 'normal', at);
    return true;
end $$;

revoke execute on function
    watchbell.cancel, watchbell.finish_run, watchbell.schedule_ended, watchbell.move_to_finished from public;

-- `watchbell.runs`: one relation for people over the engine's two tables. It shows a run's whole life
-- and takes INSERT and COPY; a row that cannot run is refused in one sentence, before anything waits
-- for it. Limits: no foreign key can point at a view, and ON CONFLICT takes no target.

create view watchbell.runs as
select r.id, r.handler, r.payload, r.status, r.queue, r.priority, r.run_at, r.started_at,
       null::timestamptz as finished_at, r.attempt, r.max_attempts, r.error, r.retry, r.timeout,
       r.unique_key, r.concurrency_key, r.target, r.tags, r.trigger, r.schedule_id, r.schedule_name, r.fire_at,
       r.start_deadline, r.retry_of,
       (select min(q.requested_at) from watchbell.worker_requests q where q.run_id = r.id) as cancel_requested_at,
       r.claimed_by, r.fence, r.crashes, r.created_at, r.created_by
from watchbell.runs_live r
union all
select r.id, r.handler, r.payload, r.status, r.queue, r.priority, r.run_at, r.started_at,
       r.finished_at, r.attempt, r.max_attempts, r.error, r.retry, r.timeout,
       r.unique_key, r.concurrency_key, r.target, r.tags, r.trigger, r.schedule_id, r.schedule_name, r.fire_at,
       r.start_deadline, r.retry_of,
       (select min(q.requested_at) from watchbell.worker_requests q where q.run_id = r.id),
       r.claimed_by, r.fence, r.crashes, r.created_at, r.created_by
from watchbell.runs_finished r;

-- The same as of runs_live. `timeout` needs it here: left out it is an hour, an explicit NULL is none.
alter view watchbell.runs alter column payload set default '{}';
alter view watchbell.runs alter column status set default 'pending';
alter view watchbell.runs alter column queue set default 'default';
alter view watchbell.runs alter column priority set default 5;
alter view watchbell.runs alter column run_at set default now();
alter view watchbell.runs alter column max_attempts set default 3;
alter view watchbell.runs alter column timeout set default '1 hour';

-- Why a row of the view is refused, in whole sentences; all NULL when it is accepted.
create function watchbell.run_refusal(run watchbell.runs) returns watchbell.refusal
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
begin
    select key,
           format('column "%s" of runs is set by watchbell and cannot be given (got "%s")',
                  key, watchbell.shown(value)),
           'Columns you may set: handler, payload, queue, priority, run_at, max_attempts, retry, timeout, '
           'start_deadline, unique_key, concurrency_key, target, tags.',
           '22023'
    into refusal
    from jsonb_each_text(to_jsonb(run))
    where case key when 'status' then value <> 'pending'
                   else value is not null and key <> all (
                        '{handler,payload,queue,priority,run_at,max_attempts,retry,timeout,start_deadline,unique_key,'
                        'concurrency_key,target,tags}') end
    limit 1;
    if found then
        return refusal;
    end if;

    if octet_length(run.unique_key) not between 1 and 256 then
        refusal := watchbell.refused('unique_key', watchbell.key_problem('unique_key', run.unique_key),
            'While a run with this key is open, another is not inserted; NULL means none.');
    elsif run.run_at < '0001-01-01 00:00Z' or run.run_at >= '9999-01-01 00:00Z' then
        refusal := watchbell.refused('run_at', watchbell.time_problem('run_at', run.run_at), 'The default is now().');
    elsif run.start_deadline < '0001-01-01 00:00Z' or run.start_deadline >= '9999-01-01 00:00Z' then
        refusal := watchbell.refused('start_deadline', watchbell.time_problem('start_deadline', run.start_deadline),
            'NULL means that it may start however late.');
    else
        refusal := watchbell.work_refusal(run.handler, run.payload, run.queue, run.priority, run.max_attempts,
                                          run.retry, run.timeout, run.concurrency_key, run.target, run.tags);
    end if;
    if refusal is not null then
        refusal.sentence :=
            format('run%s: %s', ' for handler "' || watchbell.shown(run.handler) || '"', refusal.sentence);
    end if;
    return refusal;
end $$;

create function watchbell.runs_insert() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
begin
    -- Most rows set few columns and are sound: one expression lets them pass. It knows less than run_refusal, which
    -- looks at all others; every expression more costs a transaction of one row 1.5 us, a call of a function 10 us.
    if (new.status = 'pending'
        and num_nonnulls(new.id, new.started_at, new.finished_at, new.attempt, new.error, new.trigger, new.schedule_id,
                         new.schedule_name, new.fire_at, new.retry_of, new.cancel_requested_at, new.claimed_by,
                         new.fence, new.crashes, new.created_at, new.created_by, new.retry, new.start_deadline,
                         new.concurrency_key, new.target, new.tags) = 0
        and length(new.handler) <= 64 and new.handler ~ '^[A-Za-z0-9._:/-]+$'
        and jsonb_typeof(new.payload) = 'object' and octet_length(new.payload::text) <= 1048576
        and new.queue = 'default' and new.priority between 0 and 9 and new.max_attempts between 1 and 100
        and new.timeout = '1 hour' and new.run_at between '2000-01-01 00:00Z' and '9000-01-01 00:00Z'
        and coalesce(octet_length(new.unique_key) between 1 and 256, true)) is not true then
        refusal := watchbell.run_refusal(new);
        if refusal is not null then
            raise exception using message = refusal.sentence, hint = refusal.hint, errcode = refusal.code,
                schema = 'watchbell', table = 'runs', column = refusal."column";
        end if;
        new.queue := coalesce(new.queue, 'default');
        if not exists (select from watchbell.queues q where q.name = new.queue) then
            insert into watchbell.queues (name) values (new.queue) on conflict do nothing;
        end if;
        if new.concurrency_key is not null then
            insert into watchbell.limits (key) values (new.concurrency_key) on conflict do nothing;
        end if;
    end if;

    insert into watchbell.runs_live as r (handler, payload, queue, priority, run_at, max_attempts, retry, timeout,
        start_deadline, unique_key, concurrency_key, target, tags, created_by)
    values (new.handler, coalesce(new.payload, '{}'), new.queue, coalesce(new.priority, 5), coalesce(new.run_at, now()),
        coalesce(new.max_attempts, 3), new.retry, new.timeout, new.start_deadline, new.unique_key, new.concurrency_key,
        case when new.target is not null then watchbell.selector(new.target) end, new.tags, session_user)
    on conflict (unique_key) where unique_key is not null do nothing
    returning r.id, r.handler, r.payload, r.status, r.queue, r.priority, r.run_at, r.started_at,
        null::timestamptz, r.attempt, r.max_attempts, r.error, r.retry, r.timeout,
        r.unique_key, r.concurrency_key, r.target, r.tags, r.trigger, r.schedule_id, r.schedule_name, r.fire_at,
        r.start_deadline, r.retry_of, null::timestamptz, r.claimed_by, r.fence, r.crashes, r.created_at, r.created_by
    into new;
    -- Where an open run has this unique_key already, nothing is inserted, and it is no error.
    return case when found then new end;
end $$;

create trigger runs_insert instead of insert on watchbell.runs
for each row execute function watchbell.runs_insert();

create function watchbell.runs_readonly() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
begin
    raise exception using errcode = '55000', schema = 'watchbell', table = 'runs',
        message = format('run %s cannot be %s by hand: use watchbell.cancel(%s)', old.id,
                         case tg_op when 'DELETE' then 'deleted' else 'changed' end, old.id),
        hint = 'A changed run is a new one: cancel this and insert another. Finished runs go after the retention.';
end $$;

create trigger runs_readonly instead of update or delete on watchbell.runs
for each row execute function watchbell.runs_readonly();

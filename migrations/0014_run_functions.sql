-- Functions about runs: make one or many, run a schedule now, cancel, try again. As in 0013 they run as the
-- schema's owner. A run that has ended is never touched: to retry is to make a new run.

-- The runs that retry another, open or over; and what failed, in order of time. Each is empty but for such rows.
create index runs_live_retry_of on watchbell.runs_live (retry_of) where retry_of is not null;
create index runs_finished_retry_of on watchbell.runs_finished (retry_of) where retry_of is not null;
create index runs_finished_failed on watchbell.runs_finished (finished_at) where status = 'failed';

-- Inserts a run and answers its number; while a run with this unique_key is open, that one's.
create function watchbell.enqueue(
    handler text, payload jsonb default '{}', run_at timestamptz default null, queue text default 'default',
    priority integer default 5, unique_key text default null, max_attempts integer default 3,
    retry jsonb default null, timeout interval default '1 hour', start_deadline timestamptz default null,
    concurrency_key text default null, target text default null, tags text[] default null
) returns bigint language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    run bigint;
begin
    loop
        insert into watchbell.runs as r (handler, payload, run_at, queue, priority, unique_key, max_attempts, retry,
            timeout, start_deadline, concurrency_key, target, tags)
        values (enqueue.handler, enqueue.payload, coalesce(enqueue.run_at, now()), enqueue.queue, enqueue.priority,
            enqueue.unique_key, enqueue.max_attempts, enqueue.retry, enqueue.timeout, enqueue.start_deadline,
            enqueue.concurrency_key, enqueue.target, enqueue.tags)
        returning r.id into run;
        exit when run is not null;
        select r.id into run from watchbell.runs_live r where r.unique_key = enqueue.unique_key;
        exit when run is not null;
        -- That one has ended meanwhile: insert after all.
    end loop;
    return run;
end $$;
comment on function watchbell.enqueue is 'Inserts a run, as soon as possible or at run_at; answers its number, or that of the open run with this unique_key.';

-- One run for each payload, all alike in the rest; answers their numbers in order, NULL where a run with the
-- unique key is open. Checked as a whole first: one bad value refuses the call.
create function watchbell.enqueue_many(
    handler text, payloads jsonb[], run_at timestamptz default null, queue text default 'default',
    priority integer default 5, unique_keys text[] default null, max_attempts integer default 3,
    retry jsonb default null, timeout interval default '1 hour', start_deadline timestamptz default null,
    concurrency_key text default null, target text default null, tags text[] default null
) returns setof bigint language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    n constant integer := coalesce(cardinality(payloads), 0);
    sample watchbell.runs;
    refusal watchbell.refusal;
    bad integer;
begin
    if n > 100000 or array_ndims(payloads) > 1 then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'runs', column = 'payload',
            message = format('payloads has %s entries, more than the limit of 100000', n),
            hint = 'Split it into several calls; in one transaction they are still all or none.';
    elsif unique_keys is not null and cardinality(unique_keys) <> n then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'runs', column = 'unique_key',
            message = format('unique_keys has %s entries, payloads %s', cardinality(unique_keys), n),
            hint = 'Give one key for each payload; NULL means none.';
    end if;
    sample.handler := handler;
    sample.payload := '{}';
    sample.status := 'pending';
    sample.queue := coalesce(queue, 'default');
    sample.priority := coalesce(priority, 5);
    sample.max_attempts := coalesce(max_attempts, 3);
    sample.run_at := coalesce(run_at, now());
    sample.retry := retry;
    sample.timeout := timeout;
    sample.start_deadline := start_deadline;
    sample.concurrency_key := concurrency_key;
    sample.target := target;
    sample.tags := tags;
    refusal := watchbell.run_refusal(sample);
    if refusal is null then
        select p.n into bad from unnest(payloads) with ordinality p (payload, n)
        where jsonb_typeof(p.payload) <> 'object' or octet_length(p.payload::text) > 1048576 order by p.n limit 1;
        if not found then
            select k.n into bad from unnest(unique_keys) with ordinality k (key, n)
            where octet_length(k.key) not between 1 and 256 order by k.n limit 1;
        end if;
        if found then
            sample.payload := payloads[bad];
            sample.unique_key := unique_keys[bad];
            refusal := watchbell.run_refusal(sample);
            refusal.sentence := format('entry %s: %s', bad, refusal.sentence);
        end if;
    end if;
    if refusal is not null then
        raise exception using message = refusal.sentence, hint = refusal.hint, errcode = refusal.code,
            schema = 'watchbell', table = 'runs', column = refusal."column";
    end if;

    insert into watchbell.queues (name) values (sample.queue) on conflict do nothing;
    if concurrency_key is not null then
        insert into watchbell.limits (key) values (concurrency_key) on conflict do nothing;
    end if;
    return query
    with p as materialized (
        select nextval('watchbell.runs_live_id_seq') as id, e.payload, unique_keys[e.n] as unique_key, e.n
        from unnest(payloads) with ordinality e (payload, n)
    ), r as (
        insert into watchbell.runs_live as r (id, handler, payload, queue, priority, run_at, max_attempts, retry,
            timeout, start_deadline, unique_key, concurrency_key, target, tags)
        select p.id, sample.handler, coalesce(p.payload, '{}'), sample.queue, sample.priority, sample.run_at,
               sample.max_attempts, sample.retry, sample.timeout, sample.start_deadline, p.unique_key,
               sample.concurrency_key, watchbell.selector(sample.target), sample.tags
        from p order by p.n
        on conflict (unique_key) where unique_key is not null do nothing
        returning r.id
    )
    select r.id from p left join r on r.id = p.id order by p.n;
end $$;
comment on function watchbell.enqueue_many is 'Inserts one run for each payload; answers their numbers in order, NULL where a run with the unique key is open.';

-- A run of a schedule beside its fire times: it takes from the schedule what a fired run takes, obeys the
-- concurrency key and, like a fired one, takes turns where overlap says so; but it is never skipped, and the next
-- fire time stays. Also of a schedule that is paused, done or invalid.
create function watchbell.run_now(name text, payload jsonb default null) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    wanted constant bigint := watchbell.schedule_id(name);
    s watchbell.schedules;
    key text;
    run bigint;
    problem text;
begin
    problem := case when jsonb_typeof(payload) <> 'object'
                    then format('payload must be a JSON object (got %s)', jsonb_typeof(payload))
                    else watchbell.length_problem('payload', payload::text, 1048576) end;
    if problem is not null then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'runs', column = 'payload',
            message = format('schedule "%s": %s', name, problem), hint = 'NULL takes the schedule''s own payload.';
    end if;
    select * into s from watchbell.schedules x where x.id = wanted;
    key := coalesce(s.concurrency_key,
                    case when s.overlap in ('queue_one', 'queue_all', 'cancel_running') then 'schedule:' || s.id end);
    if key is not null then
        insert into watchbell.limits (key, max_running) values (key, s.max_running) on conflict do nothing;
    end if;
    insert into watchbell.queues (name) values (s.queue) on conflict do nothing;
    insert into watchbell.runs_live as r (run_at, priority, max_attempts, trigger, queue, handler, payload, timeout,
        retry, start_deadline, concurrency_key, target, tags, schedule_id, schedule_name)
    values (watchbell.clock(), s.priority, s.max_attempts, 'run_now', s.queue, s.handler,
        coalesce(run_now.payload, s.payload), s.timeout, s.retry, watchbell.clock() + s.start_deadline, key, s.target,
        nullif(s.tags, '{}'), s.id, s.name)
    returning r.id into run;
    perform watchbell.note_change('run_now', 'schedule', s.name, s.id, null, jsonb_build_object('run_id', run));
    return run;
end $$;
comment on function watchbell.run_now is 'Makes a run of a schedule at once, with another payload if given, and leaves its fire times alone. Answers the run''s number.';

-- The same as in 0010, and an entry in activity for a run that was waiting. (One that runs has it from the request.)
create or replace function watchbell.cancel(run_id bigint, reason text default null) returns text
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
            perform watchbell.note_change('cancel', 'run', null, run.id, null,
                jsonb_strip_nulls(jsonb_build_object('reason', left(cancel.reason, 1000))));
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
comment on function watchbell.cancel is 'Cancels a run: cancelled (it was waiting), requested (it runs, and its worker is asked), or finished (it was over).';

create function watchbell.cancel_schedule(name text, reason text default null) returns integer
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    wanted constant bigint := watchbell.schedule_id(name);
    run bigint;
    n integer := 0;
begin
    perform from watchbell.schedules s where s.id = wanted for no key update;
    for run in select r.id from watchbell.runs_live r where r.schedule_id = wanted order by r.id loop
        -- A running one may end while we go.
        n := n + (watchbell.cancel(run, reason) <> 'finished')::integer;
    end loop;
    return n;
end $$;
comment on function watchbell.cancel_schedule is 'Cancels all open runs of a schedule, which goes on firing; answers how many.';

-- A new run like an ended one, from its first attempt on. While a retry of it is open, that one's number is
-- answered: a second click makes no second run.
create function watchbell.retry(run_id bigint) returns bigint
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    f watchbell.runs_finished;
    live text;
    other bigint;
begin
    -- The lock lets two callers take turns; nothing else ever changes this row.
    select * into f from watchbell.runs_finished x where x.id = retry.run_id for no key update;
    if not found then
        select r.status into live from watchbell.runs_live r where r.id = retry.run_id;
        if found then
            raise exception using errcode = '55000', schema = 'watchbell', table = 'runs', column = 'status',
                message = format('run %s cannot be retried: it is %s and has not ended', retry.run_id, live),
                hint = format('To start it anew, cancel it first: SELECT watchbell.cancel(%s);', retry.run_id);
        end if;
        raise exception using errcode = 'P0002', schema = 'watchbell', table = 'runs', column = 'id',
            message = format('run %s does not exist', coalesce(retry.run_id::text, 'NULL')),
            hint = 'Runs that failed: SELECT id, handler, error FROM watchbell.recent_failures;';
    end if;
    select r.id into other from watchbell.runs_live r where r.retry_of = f.id limit 1;
    if found then
        return other;
    end if;
    other := watchbell.insert_retry(f);
    if other is null then
        raise exception using errcode = '23505', schema = 'watchbell', table = 'runs', column = 'unique_key',
            message = format('run %s cannot be retried: %s with its unique_key "%s" is open', f.id,
                coalesce((select 'run ' || r.id from watchbell.runs_live r where r.unique_key = f.unique_key), 'a run'),
                watchbell.shown(f.unique_key)),
            hint = 'Wait for that one, or cancel it.';
    end if;
    perform watchbell.note_change('retry', 'run', f.schedule_name, f.id, null, jsonb_build_object('run_id', other));
    return other;
end $$;
comment on function watchbell.retry is 'Makes a new run like one that has ended; answers its number, or that of its open retry.';

-- NULL: an open run has its unique key. The start deadline, long past, is not taken over.
create function watchbell.insert_retry(f watchbell.runs_finished) returns bigint
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    run bigint;
begin
    if f.concurrency_key is not null then
        insert into watchbell.limits (key) values (f.concurrency_key) on conflict do nothing;
    end if;
    insert into watchbell.queues (name) values (f.queue) on conflict do nothing;
    insert into watchbell.runs_live as r (run_at, priority, max_attempts, trigger, queue, handler, payload, timeout,
        retry, unique_key, concurrency_key, target, tags, schedule_id, schedule_name, fire_at, retry_of)
    values (watchbell.clock(), f.priority, f.max_attempts, 'retry', f.queue, f.handler, f.payload, f.timeout, f.retry,
        f.unique_key, f.concurrency_key, f.target, f.tags, f.schedule_id, f.schedule_name, f.fire_at, f.id)
    on conflict (unique_key) where unique_key is not null do nothing
    returning r.id into run;
    return run;
end $$;

create function watchbell.retry_failed(
    handler text default null, since timestamptz default now() - interval '1 day', max integer default 1000,
    queue text default null, schedule text default null
) returns integer language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    f watchbell.runs_finished;
    n integer := 0;
begin
    if max is null or max not between 1 and 10000 or since is null then
        raise exception using errcode = '22023', schema = 'watchbell', table = 'runs',
            message = case when since is null then 'since is missing'
                           else format('max %s is out of range 1-10000', coalesce(max::text, 'NULL')) end,
            hint = 'Example: SELECT watchbell.retry_failed(handler => ''mail'', since => now() - interval ''2 hours'');';
    end if;
    -- A mistyped name would answer 0, as if nothing had failed.
    if schedule is not null then
        perform watchbell.schedule_id(schedule);
    end if;
    for f in
        select x.* from watchbell.runs_finished x
        where x.status = 'failed' and x.finished_at >= since
          and (retry_failed.handler is null or x.handler = retry_failed.handler)
          and (retry_failed.queue is null or x.queue = retry_failed.queue)
          and (retry_failed.schedule is null or x.schedule_name = retry_failed.schedule)
          and not exists (select from watchbell.runs_live r where r.retry_of = x.id)
          and not exists (select from watchbell.runs_finished r where r.retry_of = x.id)
        order by x.finished_at limit max
        for no key update of x skip locked
    loop
        n := n + (watchbell.insert_retry(f) is not null)::integer;
    end loop;
    if n > 0 then
        perform watchbell.note_change('retry_failed', 'run', coalesce(schedule, handler, queue), null, null,
            jsonb_strip_nulls(jsonb_build_object('handler', handler, 'queue', queue, 'schedule', schedule,
                                                 'since', since, 'runs', n)));
    end if;
    return n;
end $$;
comment on function watchbell.retry_failed is 'Retries what has failed since a time (a day ago) and was not retried yet, the oldest first; answers how many.';

revoke execute on function
    watchbell.enqueue, watchbell.enqueue_many, watchbell.run_now, watchbell.cancel_schedule, watchbell.retry,
    watchbell.retry_failed from public;

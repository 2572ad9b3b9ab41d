-- What a run's end tells others: a run of the handler `http` that posts to `callback_url`, and a NOTIFY on
-- `notify_channel`, both in the transaction that records the end. And the view and the ends of runs as they
-- are with this and with the limits of queues.

alter table watchbell.runs_live add column callback_url text, add column notify_channel text;
alter table watchbell.runs_finished add column callback_url text, add column notify_channel text;
alter table watchbell.schedules add column callback_url text, add column notify_channel text;
insert into watchbell.queues (name) values ('callbacks') on conflict do nothing;

create function watchbell.callback_refusal(callback_url text, notify_channel text) returns watchbell.refusal
language plpgsql immutable set search_path = watchbell, pg_temp as $$
begin
    if callback_url !~ '^https?://[^\s/]\S*$' then
        return watchbell.refused('callback_url',
            format('callback_url "%s" is not an address', watchbell.shown(callback_url)),
            'Example: https://example.org/done.', '22023');
    elsif octet_length(callback_url) > 2048 then
        return watchbell.refused('callback_url', watchbell.length_problem('callback_url', callback_url, 2048),
            'Example: https://example.org/done.');
    elsif octet_length(notify_channel) not between 1 and 63 then
        return watchbell.refused('notify_channel',
            format('notify_channel is %s bytes, which is out of range 1-63', octet_length(notify_channel)),
            'Hear it with LISTEN.');
    elsif notify_channel like 'watchbell%' then
        return watchbell.refused('notify_channel', 'notify_channel begins with "watchbell", which is for workers',
            'Take another name.');
    end if;
    return null;
end $$;

create function watchbell.schedules_callback_check() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal := watchbell.callback_refusal(new.callback_url, new.notify_channel);
begin
    if refusal is not null then
        raise exception using message = format('schedule "%s": %s', watchbell.shown(new.name), refusal.sentence),
            hint = refusal.hint, errcode = refusal.code, schema = 'watchbell', table = 'schedules',
            column = refusal."column";
    end if;
    return new;
end $$;
create trigger schedules_1_callback_check before insert or update of callback_url, notify_channel
on watchbell.schedules for each row execute function watchbell.schedules_callback_check();
create trigger schedules_2_plan_callback before update of callback_url, notify_channel
on watchbell.schedules for each row execute function watchbell.schedules_plan();

-- The caller is in the transaction that ended the run. A callback has none of its own.
create function watchbell.call_back(run watchbell.runs_finished) returns void
language plpgsql security definer set search_path = watchbell, pg_temp as $$
begin
    if run.callback_url is not null then
        insert into watchbell.runs_live (handler, queue, trigger, run_at, max_attempts, retry, timeout, created_by, payload)
        values ('http', 'callbacks', 'callback', run.finished_at, 10,
            '{"strategy": "exponential", "base": "5s", "max": "1h"}', '30 s', run.created_by,
            jsonb_build_object('url', run.callback_url, 'method', 'POST',
                'headers', jsonb_build_object('content-type', 'application/json'),
                'body', jsonb_build_object('run_id', run.id, 'handler', run.handler, 'queue', run.queue,
                    'status', run.status, 'attempt', run.attempt, 'max_attempts', run.max_attempts,
                    'error', run.error, 'created_at', run.created_at, 'started_at', run.started_at,
                    'finished_at', run.finished_at, 'schedule', run.schedule_name, 'fire_at', run.fire_at,
                    'tags', coalesce(to_jsonb(run.tags), '[]'))));
    end if;
    if run.notify_channel is not null then
        perform pg_notify(run.notify_channel, jsonb_build_object('run_id', run.id, 'handler', run.handler,
            'status', run.status, 'attempt', run.attempt)::text);
    end if;
end $$;
revoke execute on function watchbell.call_back from public;

-- In the view a run has its own concurrency_key, not that of its queue.
create or replace view watchbell.runs as
select r.id, r.handler, r.payload, r.status, r.queue, r.priority, r.run_at, r.started_at,
       null::timestamptz as finished_at, r.attempt, r.max_attempts, r.error, r.retry, r.timeout,
       r.unique_key,
       case when r.concurrency_key like 'queue:%' then r.inner_key else r.concurrency_key end as concurrency_key, r.target, r.tags, r.trigger, r.schedule_id, r.schedule_name, r.fire_at,
       r.start_deadline, r.retry_of,
       (select min(q.requested_at) from watchbell.worker_requests q where q.run_id = r.id) as cancel_requested_at,
       r.claimed_by, r.fence, r.crashes, r.created_at, r.created_by, r.callback_url, r.notify_channel
from watchbell.runs_live r
union all
select r.id, r.handler, r.payload, r.status, r.queue, r.priority, r.run_at, r.started_at,
       r.finished_at, r.attempt, r.max_attempts, r.error, r.retry, r.timeout,
       r.unique_key, r.concurrency_key, r.target, r.tags, r.trigger, r.schedule_id, r.schedule_name, r.fire_at,
       r.start_deadline, r.retry_of,
       (select min(q.requested_at) from watchbell.worker_requests q where q.run_id = r.id),
       r.claimed_by, r.fence, r.crashes, r.created_at, r.created_by, r.callback_url, r.notify_channel
from watchbell.runs_finished r;

create or replace function watchbell.run_refusal(run watchbell.runs) returns watchbell.refusal
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
begin
    select key,
           format('column "%s" of runs is set by watchbell and cannot be given (got "%s")',
                  key, watchbell.shown(value)),
           'Columns you may set: handler, payload, queue, priority, run_at, max_attempts, retry, timeout, '
           'start_deadline, unique_key, concurrency_key, target, tags, callback_url, notify_channel.',
           '22023'
    into refusal
    from jsonb_each_text(to_jsonb(run))
    where case key when 'status' then value <> 'pending'
                   else value is not null and key <> all (
                        '{handler,payload,queue,priority,run_at,max_attempts,retry,timeout,start_deadline,unique_key,'
                        'concurrency_key,target,tags,callback_url,notify_channel}') end
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
        if refusal is null then
            refusal := watchbell.callback_refusal(run.callback_url, run.notify_channel);
        end if;
    end if;
    if refusal is not null then
        refusal.sentence :=
            format('run%s: %s', ' for handler "' || watchbell.shown(run.handler) || '"', refusal.sentence);
    end if;
    return refusal;
end $$;

create or replace function watchbell.runs_insert() returns trigger
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
                         new.concurrency_key, new.target, new.tags, new.callback_url, new.notify_channel) = 0
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
        elsif new.queue <> 'default' then
            perform watchbell.admit(new.queue, 1);
        end if;
        if new.concurrency_key is not null then
            insert into watchbell.limits (key) values (new.concurrency_key) on conflict do nothing;
        end if;
    end if;

    insert into watchbell.runs_live as r (handler, payload, queue, priority, run_at, max_attempts, retry, timeout,
        start_deadline, unique_key, concurrency_key, target, tags, created_by, callback_url,
        notify_channel)
    values (new.handler, coalesce(new.payload, '{}'), new.queue, coalesce(new.priority, 5), coalesce(new.run_at, now()),
        coalesce(new.max_attempts, 3), new.retry, new.timeout, new.start_deadline, new.unique_key, new.concurrency_key,
        case when new.target is not null then watchbell.selector(new.target) end, new.tags, session_user,
        new.callback_url, new.notify_channel)
    on conflict (unique_key) where unique_key is not null do nothing
    returning r.id, r.handler, r.payload, r.status, r.queue, r.priority, r.run_at, r.started_at,
        null::timestamptz, r.attempt, r.max_attempts, r.error, r.retry, r.timeout,
        r.unique_key, r.concurrency_key, r.target, r.tags, r.trigger, r.schedule_id, r.schedule_name, r.fire_at,
        r.start_deadline, r.retry_of, null::timestamptz, r.claimed_by, r.fence, r.crashes, r.created_at, r.created_by,
        r.callback_url, r.notify_channel
    into new;
    -- Where an open run has this unique_key already, nothing is inserted, and it is no error.
    return case when found then new end;
end $$;

create or replace function watchbell.move_to_finished(run watchbell.runs_live, ended_as text, error text, at timestamptz)
returns void language plpgsql set search_path = watchbell, pg_temp as $$
declare
    ended watchbell.runs_finished;
begin
    insert into watchbell.runs_finished (
        id, run_at, created_at, started_at, finished_at, fence, claimed_by, attempt, priority, max_attempts, crashes,
        status, trigger, queue, handler, payload, timeout, retry, start_deadline, unique_key, concurrency_key, target,
        tags, error, schedule_id, schedule_name, fire_at, retry_of, created_by, callback_url, notify_channel)
    values (
        run.id, run.run_at, run.created_at, run.started_at, at, run.fence, run.claimed_by, run.attempt, run.priority,
        run.max_attempts, run.crashes, ended_as, run.trigger, run.queue, run.handler, run.payload, run.timeout,
        run.retry, run.start_deadline, run.unique_key,
        case when run.concurrency_key like 'queue:%' then run.inner_key else run.concurrency_key end, run.target,
        run.tags, error, run.schedule_id, run.schedule_name, run.fire_at, run.retry_of, run.created_by,
        run.callback_url, run.notify_channel)
    returning * into ended;
    if ended.callback_url is not null or ended.notify_channel is not null then
        perform watchbell.call_back(ended);
    end if;
end $$;

-- Ends a running run as normal inside the caller's transaction, so that a handler's effects and the end of its
-- run are one commit. False when the run is no longer the caller's: then roll the effects back.
create or replace function watchbell.finish_run(run_id bigint, fence bigint, worker_id integer) returns boolean
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
    update watchbell.limits l set running = l.running - 1 where l.key in (run.concurrency_key, run.inner_key) and l.running > 0;
    perform watchbell.schedule_ended(run, 'normal', at);
    return true;
end $$;

comment on column watchbell.schedules.callback_url is 'Where the end of each of its runs is posted to; see runs.callback_url.';
comment on column watchbell.schedules.notify_channel is 'Channel that hears of the end of each of its runs; see runs.notify_channel.';
comment on function watchbell.call_back(watchbell.runs_finished) is 'Inserts the callback of a run that ended, and notifies its channel. For the engine.';
comment on column watchbell.runs.callback_url is 'Its end is posted there as JSON, by a run of the handler http in the queue callbacks.';
comment on column watchbell.runs.notify_channel is 'Its end is told on this channel by NOTIFY: run_id, handler, status, attempt as JSON.';
comment on column watchbell.runs_live.callback_url is 'Its end is posted there as JSON, by a run of the handler http in the queue callbacks.';
comment on column watchbell.runs_live.notify_channel is 'Its end is told on this channel by NOTIFY: run_id, handler, status, attempt as JSON.';
comment on column watchbell.runs_finished.callback_url is 'Its end is posted there as JSON, by a run of the handler http in the queue callbacks.';
comment on column watchbell.runs_finished.notify_channel is 'Its end is told on this channel by NOTIFY: run_id, handler, status, attempt as JSON.';

-- Many runs, straight into the engine's table: the view's trigger for each row costs two thirds of the
-- rate. The rows were checked by the client. An array shorter than the others, such as an empty one,
-- means the default from there on. Offsets and timeouts are microseconds; a negative timeout is none.
with queue as (
    insert into watchbell.queues (name)
    select q.name from unnest($14::text[]) q (name)
    where not exists (select from watchbell.queues known where known.name = q.name)
    on conflict do nothing
), key as (
    insert into watchbell.limits (key)
    select k.key from unnest($15::text[]) k (key)
    where not exists (select from watchbell.limits known where known.key = k.key)
    on conflict do nothing
)
insert into watchbell.runs_live (handler, payload, queue, priority, run_at, max_attempts, retry, timeout,
    start_deadline, unique_key, concurrency_key, target, tags, callback_url, notify_channel)
select g.handler, coalesce(g.payload::jsonb, '{}'), coalesce(g.queue, 'default'), coalesce(g.priority, 5),
    case when g.delay is null then coalesce(g.run_at, now()) else now() + make_interval(secs => g.delay / 1e6) end,
    coalesce(g.max_attempts, 3), g.retry::jsonb,
    case when g.timeout is null then '1 hour' when g.timeout >= 0 then make_interval(secs => g.timeout / 1e6) end,
    g.start_deadline, g.unique_key, g.concurrency_key, g.target, g.tags::text[],
    g.callback_url, g.notify_channel
from unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::timestamptz[], $6::float8[], $7::smallint[],
    $8::text[], $9::float8[], $10::timestamptz[], $11::text[], $12::text[], $13::text[], $16::text[], $17::text[],
    $18::text[])
    g (handler, payload, queue, priority, run_at, delay, max_attempts, retry, timeout,
       start_deadline, unique_key, concurrency_key, target, tags, callback_url, notify_channel)
-- once a statement: a full queue refuses all of it
where (select coalesce(bool_and(watchbell.admit(q.name, q.n)), true) from unnest($14::text[], $19::bigint[]) q (name, n))

-- The demo's own table, a watch that moves its rows from pending to normal, and a schedule of each kind.
-- No worker has said yet that it knows these handlers; that is no news here.
set client_min_messages = error;

create schema demo;
comment on schema demo is 'sample data of watchbell demo';

create table demo.hosts (
    id           bigint generated always as identity primary key,
    name         text not null,
    status       text not null default 'pending',
    status_since timestamptz not null default clock_timestamp(),
    created_at   timestamptz not null default clock_timestamp()
);
create index on demo.hosts (id) where status = 'pending';
-- What the watch's handler writes. The transaction tells which rows became normal together.
create table demo.inventory (
    moved_in   xid8 not null default pg_current_xact_id(),
    at         timestamptz not null default clock_timestamp(),
    worker_pid integer not null,
    host_id    bigint not null
);
create index on demo.inventory (at);
create sequence demo.host_number;
create table demo.steps (run_id bigint primary key, done integer not null);

insert into demo.hosts (name) values ('first-host');

insert into watchbell.watches (name, table_name, handler, since_column, managed_by)
values ('demo.init', 'demo.hosts', 'init_host', 'status_since', 'watchbell demo');
select watchbell.wake_watch('demo.init');

insert into watchbell.schedules (name, handler, payload, queue, cron, fixed_delay, fixed_rate, run_at, first_fire, retry, managed_by)
select s.name, s.handler, s.payload, current_setting('demo.queue'), s.cron, s.fixed_delay::interval, s.fixed_rate::interval,
       clock_timestamp() + s.run_in::interval, s.first_fire, s.retry, 'watchbell demo'
from (values
    ('demo.beat', 'beat', '{}'::jsonb, '*/2 * * * * *', null, null, null, 'after_period', null::jsonb),
    ('demo.hello', 'hello', '{}', null, null, null, '2 s', 'after_period', null),
    ('demo.arrive', 'sql', '{"statement": "insert into demo.hosts (name) select ''host-'' || nextval(''demo.host_number'') from generate_series(1, 1 + floor(random() * 3)::int)"}',
     null, null, '2 s', null, 'at_once', null),
    ('demo.flaky', 'flaky', '{}', null, null, '5 s', null, 'at_once', '{"strategy": "fixed", "base": "1s", "jitter": false}'),
    ('demo.slow', 'slow', '{}', null, '5 s', null, null, 'at_once', null)
) as s (name, handler, payload, cron, fixed_delay, fixed_rate, run_in, first_fire, retry);

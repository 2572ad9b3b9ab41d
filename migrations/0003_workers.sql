-- Workers and what they share: queues, concurrency limits, handlers that were ever registered, and
-- people's requests to workers.

create table watchbell.workers (
    id           integer generated always as identity primary key,
    name         text not null,
    host         text not null,
    ip           text,
    pid          integer not null,
    version      text not null,
    labels       text[] not null default '{}',
    handlers     text[] not null default '{}',
    queues       text[],
    slots        integer not null,
    state        text collate "C" not null default 'starting'
                 check (state in ('starting', 'running', 'draining', 'stopped', 'dead')),
    presence     boolean not null default false,
    started_at   timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    lease_until  timestamptz not null,
    ended_at     timestamptz
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- A person never writes the worker's own row or a running run: an open psql transaction would stop its
-- heartbeat or its finish. Requests wait here and the worker reads them.
create table watchbell.worker_requests (
    id           bigint generated always as identity primary key,
    request      text collate "C" not null check (request in ('drain', 'cancel')),
    worker_id    integer,
    run_id       bigint,
    reason       text,
    requested_by text not null default session_user,
    requested_at timestamptz not null default now(),
    handled_at   timestamptz,
    check ((request = 'cancel') = (run_id is not null)),
    check ((request = 'drain') = (worker_id is not null))
);
create index worker_requests_open on watchbell.worker_requests (id) where handled_at is null;
create index worker_requests_run on watchbell.worker_requests (run_id) where run_id is not null;

create table watchbell.handlers (
    name          text collate "C" primary key,
    first_seen_at timestamptz not null default now(),
    last_seen_at  timestamptz not null default now()
);

create table watchbell.queues (
    name           text collate "C" primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$'),
    paused_at      timestamptz,
    paused_by      text,
    pause_note     text,
    sleepers_until timestamptz not null default '-infinity',
    created_at     timestamptz not null default now()
) with (fillfactor = 50);
insert into watchbell.queues (name) values ('default');

create table watchbell.limits (
    key         text collate "C" primary key,
    max_running integer not null default 1 check (max_running between 1 and 1000000),
    running     integer not null default 0 check (running >= 0)
) with (fillfactor = 50);

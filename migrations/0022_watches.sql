-- Watches: rows of people's own tables are the queue and their status column is the state machine. What the
-- engine must remember about such a row stands here, never in the table itself.

create table watchbell.watches (
    id             bigint generated always as identity primary key,
    name           text collate "C" not null constraint watches_name_key unique,
    table_name     text not null,
    handler        text collate "C",
    payload        jsonb not null default '{}',
    key_columns    text[],
    status_column  text not null default 'status',
    since_column   text,
    from_state     text not null default 'pending',
    via_state      text,
    to_state       text not null default 'normal',
    error_state    text not null default 'failed',
    transitions    jsonb,
    mode           text collate "C" not null default 'auto',
    batch_size     integer not null default 100,
    max_running    integer,
    rate_limit     integer,
    rate_period    interval not null default '1 s',
    order_by       text,
    filter         text,
    poll_interval  interval not null default '1 s',
    timeout        interval default '1 hour',
    retry          jsonb,
    max_attempts   smallint not null default 3,
    description    text,
    owner          text,
    runbook_url    text,
    tags           text[] not null default '{}',
    managed_by     text,
    -- written by the system
    status         text collate "C" not null default 'pending',
    error          text,
    plan           jsonb,
    planned_at     timestamptz,
    wake_at        timestamptz not null default '-infinity',
    paused_at      timestamptz,
    paused_by      text,
    paused_until   timestamptz,
    pause_note     text,
    version        bigint not null default 1,
    declared_version bigint,
    created_by     text not null default session_user,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now()
) with (fillfactor = 70);

-- A row of a watched table that somebody works on, that waits for its next attempt, or that keeps data between
-- two attempts. It is deleted when the row moves on. `key` is the row's key columns as text, in order; `step` is
-- the state that the row was taken from. Always locked after the user's row, never before it.
create table watchbell.watch_claims (
    watch_id   bigint not null,
    key        text[] collate "C" not null,
    step       text collate "C" not null,
    claimed_by integer,
    claimed_at timestamptz,
    fence      bigint not null default 0,
    attempt    integer not null default 0,
    crashes    smallint not null default 0,
    due_at     timestamptz not null default '-infinity',
    data       jsonb,
    error      text,
    primary key (watch_id, key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);

-- The keys that a worker is about to hand to row handlers inside a transaction: if it dies there, the transaction
-- leaves no trace, so rescue charges the crash to these.
create table watchbell.worker_batches (
    worker_id  integer not null,
    watch_id   bigint not null,
    step       text collate "C" not null,
    keys       jsonb not null,
    started_at timestamptz not null default now(),
    primary key (worker_id, watch_id, step)
) with (fillfactor = 50);

-- How many rows each worker moved on or gave up, and what was tried again: one row each, so no two workers wait.
create table watchbell.watch_totals (
    watch_id  bigint not null,
    step      text collate "C" not null,
    worker_id integer not null,
    done      bigint not null default 0,
    failed    bigint not null default 0,
    retried   bigint not null default 0,
    last_at   timestamptz not null default now(),
    primary key (watch_id, step, worker_id)
) with (fillfactor = 50);

-- Errors of attempts, apart from the claims, so that they stay when the row has moved on. In days, as all history.
create table watchbell.watch_errors (
    watch_id  bigint not null,
    key       text[] collate "C" not null,
    step      text collate "C" not null,
    attempt   integer not null,
    worker_id integer,
    kind      text collate "C" not null,
    message   text not null,
    at        timestamptz not null default now()
) partition by range (at);
create index watch_errors_key on watchbell.watch_errors (watch_id, key);

create or replace function watchbell.day_parents() returns text[]
language sql immutable set search_path = watchbell, pg_temp
return '{run_output,run_errors,watch_errors,activity,fires,runs_finished}'::text[];

select count(*) from watchbell.make_days();

comment on table watchbell.watches is 'What to do with rows of people''s own tables: from a state, through a handler, to another.';
comment on table watchbell.watch_claims is 'What is known of a watched row in work or waiting for another attempt; gone when the row moves on.';
comment on table watchbell.worker_batches is 'Rows a worker is handling inside a transaction; a crash is charged to them.';
comment on table watchbell.watch_totals is 'Rows moved on, given up and tried again, by watch, step and worker.';
comment on table watchbell.watch_errors is 'Errors of attempts at watched rows, a partition a day.';
do $$
declare
    said text[];
begin
    foreach said slice 1 in array array[
        ['watches', 'id', 'Number, given by the system.'],
        ['watches', 'name', 'Unique name: letters, digits and . _ : - (at most 128).'],
        ['watches', 'table_name', 'The watched table as in SQL, quoted where needed: public.hosts.'],
        ['watches', 'handler', 'What does the work; NULL only with transitions.'],
        ['watches', 'payload', 'Given to the handler beside the row: a JSON object.'],
        ['watches', 'key_columns', 'Columns that name a row; NULL means the primary key.'],
        ['watches', 'status_column', 'Column with the state: text, an enum or smallint.'],
        ['watches', 'since_column', 'Optional timestamptz column set to the moment of each move, from which waiting times are known.'],
        ['watches', 'from_state', 'Rows in this state are taken.'],
        ['watches', 'via_state', 'State while the handler works; NULL leaves it at from_state.'],
        ['watches', 'to_state', 'State after success.'],
        ['watches', 'error_state', 'State after the last failed attempt.'],
        ['watches', 'transitions', 'Several steps instead: a list of {from, via, to, error, handler, ...}.'],
        ['watches', 'mode', 'auto, transactional (handler inside our transaction) or leased (claims in watch_claims).'],
        ['watches', 'batch_size', 'Rows taken at once: 1 to 1000.'],
        ['watches', 'max_running', 'Rows in work at once over all workers; NULL means no limit.'],
        ['watches', 'rate_limit', 'Rows that may start per rate_period; NULL means any number.'],
        ['watches', 'rate_period', 'See rate_limit.'],
        ['watches', 'order_by', 'Columns, each with optional asc or desc; NULL means by key.'],
        ['watches', 'filter', 'A condition in SQL that rows must meet besides their state.'],
        ['watches', 'poll_interval', 'How long an idle worker waits between two looks, unless woken.'],
        ['watches', 'timeout', 'Longest time of one attempt; NULL means none.'],
        ['watches', 'retry', 'Retry policy, as of a schedule.'],
        ['watches', 'max_attempts', 'Attempts at a row before error_state.'],
        ['watches', 'description', 'For people.'],
        ['watches', 'owner', 'Who to ask.'],
        ['watches', 'runbook_url', 'What to do when it fails.'],
        ['watches', 'tags', 'For people.'],
        ['watches', 'managed_by', 'Which program or file declares it.'],
        ['watches', 'status', 'System: pending (to be looked at by a worker), normal, or invalid.'],
        ['watches', 'error', 'System: why it is invalid.'],
        ['watches', 'plan', 'System: what was found in the catalog: the mode and its reason, key types, a missing index.'],
        ['watches', 'planned_at', 'System: when the plan was made.'],
        ['watches', 'wake_at', 'System: -infinity asks a worker to plan it anew.'],
        ['watches', 'paused_at', 'Since when it is paused.'],
        ['watches', 'paused_by', 'Who paused it.'],
        ['watches', 'paused_until', 'When it resumes by itself.'],
        ['watches', 'pause_note', 'Why it is paused.'],
        ['watches', 'version', 'System: counts edits.'],
        ['watches', 'declared_version', 'Written by code that declares watches.'],
        ['watches', 'created_by', 'Who created it.'],
        ['watches', 'created_at', 'When it was created.'],
        ['watches', 'updated_at', 'When it was last edited.'],
        ['watch_claims', 'watch_id', 'The watch.'],
        ['watch_claims', 'key', 'The row''s key columns as text, in order.'],
        ['watch_claims', 'step', 'The state that the row was taken from.'],
        ['watch_claims', 'claimed_by', 'The worker that has it; NULL while it waits.'],
        ['watch_claims', 'claimed_at', 'Since when.'],
        ['watch_claims', 'fence', 'Fencing token: only rises.'],
        ['watch_claims', 'attempt', 'Attempts started at this step.'],
        ['watch_claims', 'crashes', 'Workers that died with it.'],
        ['watch_claims', 'due_at', 'Not taken again before.'],
        ['watch_claims', 'data', 'Kept by the handler between two attempts.'],
        ['watch_claims', 'error', 'The last attempt''s error.'],
        ['worker_batches', 'worker_id', 'The worker.'],
        ['worker_batches', 'watch_id', 'The watch.'],
        ['worker_batches', 'step', 'The state the rows were taken from.'],
        ['worker_batches', 'keys', 'The rows'' keys: a list of lists of text.'],
        ['worker_batches', 'started_at', 'When the batch began.'],
        ['watch_totals', 'watch_id', 'The watch.'],
        ['watch_totals', 'step', 'The state the rows were taken from.'],
        ['watch_totals', 'worker_id', 'The worker.'],
        ['watch_totals', 'done', 'Rows moved on.'],
        ['watch_totals', 'failed', 'Rows given up.'],
        ['watch_totals', 'retried', 'Attempts that will be repeated.'],
        ['watch_totals', 'last_at', 'When the last of these happened.'],
        ['watch_errors', 'watch_id', 'The watch.'],
        ['watch_errors', 'key', 'The row''s key columns as text, in order.'],
        ['watch_errors', 'step', 'The state that the row was taken from.'],
        ['watch_errors', 'attempt', 'Which attempt.'],
        ['watch_errors', 'worker_id', 'Where it ran.'],
        ['watch_errors', 'kind', 'What kind of end: error, timeout, panic, crash, ...'],
        ['watch_errors', 'message', 'What went wrong.'],
        ['watch_errors', 'at', 'When.']
    ] loop
        execute format('comment on column watchbell.%I.%I is %L', said[1], said[2], said[3]);
    end loop;
end $$;

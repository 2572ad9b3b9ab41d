-- Schedules: what to do and when. People insert rows here; the checks that answer a bad row in one
-- sentence come in 0007.

create table watchbell.schedules (
    id                   bigint generated always as identity primary key,
    name                 text collate "C" not null constraint schedules_name_key unique,
    cron                 text,
    fixed_delay          interval,
    fixed_rate           interval,
    run_at               timestamptz,
    kind                 text generated always as (
        case when cron is not null then 'cron'
             when fixed_delay is not null then 'fixed_delay'
             when fixed_rate is not null then 'fixed_rate'
             else 'once' end) stored,
    timezone             text not null default 'UTC',
    dst                  text not null default 'once',
    handler              text collate "C" not null,
    payload              jsonb not null default '{}',
    queue                text collate "C" not null default 'default',
    priority             smallint not null default 5,
    max_attempts         smallint not null default 3,
    retry                jsonb,
    timeout              interval default '1 hour',
    overlap              text not null default 'allow',
    max_running          integer not null default 1,
    misfire              text not null default 'fire_once',
    misfire_grace        interval not null default '60 s',
    catch_up_window      interval not null default '1 day',
    catch_up_limit       integer not null default 100,
    start_deadline       interval,
    jitter               interval not null default '0',
    pause_after_failures integer,
    concurrency_key      text collate "C",
    first_fire           text not null default 'after_period',
    starts_at            timestamptz,
    ends_at              timestamptz,
    max_fires            bigint,
    target               text collate "C",
    description          text,
    owner                text,
    runbook_url          text,
    tags                 text[] not null default '{}',
    managed_by           text,
    -- written by the system
    status               text not null default 'pending',
    error                text,
    wake_at              timestamptz not null default '-infinity',
    next_fire_at         timestamptz generated always as (case when isfinite(wake_at) then wake_at end) stored,
    anchor_at            timestamptz,
    effective_from       timestamptz not null default now(),
    last_fire_at         timestamptz,
    last_started_at      timestamptz,
    last_success_at      timestamptz,
    last_finished_at     timestamptz,
    last_duration        interval,
    last_status          text,
    consecutive_failures integer not null default 0,
    fires_count          bigint not null default 0,
    paused_at            timestamptz,
    paused_by            text,
    paused_until         timestamptz,
    pause_note           text,
    version              bigint not null default 1,
    declared_version     bigint,
    created_by           text not null default session_user,
    created_at           timestamptz not null default now(),
    updated_at           timestamptz not null default now()
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The one index the fire stage reads: a row just inserted stands at its head ('-infinity').
create index schedules_due on watchbell.schedules (wake_at) where paused_at is null;

-- Every heartbeat asks whether a pause has run out.
create index schedules_resume on watchbell.schedules (paused_until) where paused_until is not null;

-- One row per fire time and what became of it; the key is the proof that none acted twice.
create table watchbell.fires (
    schedule_id bigint not null,
    fire_at     timestamptz not null,
    disposition text collate "C" not null check (disposition in (
        'run', 'caught_up', 'queued', 'skipped_overlap', 'skipped_misfire', 'coalesced', 'expired')),
    run_id      bigint,
    until       timestamptz,
    missed      bigint not null default 0,
    decided_at  timestamptz not null default now(),
    primary key (schedule_id, fire_at)
) partition by range (fire_at);

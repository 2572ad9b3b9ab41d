-- What a worker says of itself beside its heartbeat, so that `attention` can judge it by its own limits; and the
-- indexes by which `attention` finds the few schedules among many that it is about.

alter table watchbell.workers
    add column clock_skew     interval,
    add column retention      interval,
    add column draining_until timestamptz,
    add column schema_version integer;

comment on column watchbell.workers.clock_skew is 'How far its host''s clock is ahead of the database''s, behind if negative; rewritten when it changes by 100 ms.';
comment on column watchbell.workers.retention is 'How long it keeps finished runs; the least of all workers counts.';
comment on column watchbell.workers.draining_until is 'While it drains: when its drain timeout and its grace are over.';
comment on column watchbell.workers.schema_version is 'The newest schema version that its build knows.';

-- Only rows that a person may have to look at. Neither claim nor a good finish changes what the predicate reads.
create index schedules_attention on watchbell.schedules (id)
where paused_at is not null or consecutive_failures >= 3 or status = 'invalid' or (status = 'done' and fires_count = 0);

-- Which handlers are wanted, where, and by whom: walked from one value to the next.
create index schedules_wanted on watchbell.schedules (handler, queue, (coalesce(target, '')))
where paused_at is null and status in ('pending', 'normal');

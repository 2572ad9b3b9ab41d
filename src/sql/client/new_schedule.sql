-- One schedule; its trigger checks the row and turns NULL into a column's default, except for timeout,
-- where NULL is none. $34 and $35 are moments relative to now, in place of run_at and starts_at.
insert into watchbell.schedules as s (name, cron, fixed_delay, fixed_rate, run_at, timezone, dst, handler, payload,
    queue, priority, max_attempts, retry, timeout, overlap, max_running, misfire, misfire_grace, catch_up_window,
    catch_up_limit, start_deadline, jitter, pause_after_failures, concurrency_key, first_fire, starts_at, ends_at,
    max_fires, target, description, owner, runbook_url, tags, managed_by, declared_version,
    callback_url, notify_channel, keep_alive, copies)
values ($1, $2, $3, $4, coalesce($5::timestamptz, now() + $34::interval), $6, $7, $8, $9::jsonb,
    $10, $11, $12, $13::jsonb, $14, $15, $16, $17, $18, $19,
    $20, $21, $22, $23, $24, $25, coalesce($26::timestamptz, now() + $35::interval), $27,
    $28, $29, $30, $31, $32, $33, $36, $37, $38, $39,
    $40, $41)

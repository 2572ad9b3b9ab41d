-- One run, through the view: its trigger checks the row, makes a missing queue or limit, and inserts
-- nothing for a unique key that is open. A test may set its session's time, see watchbell.clock().
insert into watchbell.runs (handler, payload, queue, priority, run_at, max_attempts, retry, timeout,
    start_deadline, unique_key, concurrency_key, target, tags, callback_url, notify_channel)
values ($1, $2::jsonb, $3, $4, coalesce($5, nullif(current_setting('watchbell.now', true), '')::timestamptz, now()) + make_interval(secs => $6::float8 / 1e6), $7, $8::jsonb, $9,
    $10, $11, $12, $13, $14, $15, $16)
returning id

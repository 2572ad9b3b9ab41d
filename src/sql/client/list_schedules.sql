-- Schedules for people; times are kept inside the years that a client can represent. NULL stays NULL: greatest() and
-- least() leave it out.
select s.id, s.name, s.kind, s.cron, s.fixed_delay, s.fixed_rate,
    case when s.run_at is not null then least(greatest(s.run_at, '0001-01-01 00:00Z'), '9999-12-31 00:00Z') end as run_at,
    s.timezone, s.handler,
    s.payload::text as payload, s.queue, s.priority, s.max_attempts, s.timeout, s.overlap, s.misfire,
    s.dst, s.retry::text as retry, s.max_running, s.misfire_grace, s.catch_up_window, s.catch_up_limit, s.start_deadline,
    s.jitter, s.pause_after_failures, s.concurrency_key, s.first_fire,
    case when s.starts_at is not null then least(greatest(s.starts_at, '0001-01-01 00:00Z'), '9999-12-31 00:00Z') end
        as starts_at,
    case when s.ends_at is not null then least(greatest(s.ends_at, '0001-01-01 00:00Z'), '9999-12-31 00:00Z') end
        as ends_at,
    s.max_fires, s.fires_count, s.runbook_url,
    s.target, s.description, s.owner, s.tags, s.managed_by, s.status, s.error, s.next_fire_at,
    s.next_fire_at - now() as fires_in, s.last_fire_at, s.last_started_at, s.last_success_at, s.last_finished_at,
    s.last_duration, s.last_status, s.consecutive_failures, s.paused_at, s.paused_by,
    case when s.paused_until is not null then least(s.paused_until, '9999-12-31 00:00Z') end as paused_until, s.pause_note, s.keep_alive, s.copies, s.crash_loop_since, s.tz_mismatch,
    s.version, s.created_at, s.updated_at
from watchbell.schedules s
where ($1::text is null or s.status = $1)
  and ($2::text is null or s.handler = $2)
  and ($3::text is null or s.queue = $3)
  and ($4::text is null or s.name = $4)
  and ($5::text is null or s.name > $5)
order by s.name
limit $6

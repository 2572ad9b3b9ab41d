-- Fire, first: lock the schedules that are due. Open runs are counted by the next statement, not here:
-- inside the locking SELECT one still sees a run that ended while waiting for the lock.
select s.id, s.name, s.kind, s.cron, (extract(epoch from s.fixed_delay) * 1000)::bigint as fixed_delay_ms,
       (extract(epoch from s.fixed_rate) * 1000)::bigint as fixed_rate_ms, s.run_at, s.timezone, s.dst, s.status,
       s.overlap, s.max_running, s.misfire, (extract(epoch from s.misfire_grace) * 1000)::bigint as misfire_grace_ms,
       (extract(epoch from s.catch_up_window) * 1000)::bigint as catch_up_window_ms, s.catch_up_limit,
       (extract(epoch from s.start_deadline) * 1000)::bigint as start_deadline_ms,
       (extract(epoch from s.jitter) * 1000)::bigint as jitter_ms, s.first_fire, s.starts_at, s.ends_at, s.max_fires,
       s.fires_count, s.keep_alive, s.copies, s.crash_loop_since, coalesce(s.target ~ '^all(:|$)', false) as fleet,
       s.streak_at, s.tz_mismatch, s.anchor_at, s.effective_from, s.created_at, s.last_fire_at, s.last_finished_at,
       case when isfinite(s.wake_at) then s.wake_at end as wake_at, coalesce($2::timestamptz, clock_timestamp()) as now
from watchbell.schedules s
where s.paused_at is null and s.wake_at <= coalesce($2::timestamptz, now())
order by s.wake_at, s.id
limit $1
for no key update skip locked

-- Backfill: an open request and the definition of its schedule, as the planner takes it; see 1_fire_due.sql.
select b.from_at, b.to_at, s.version, s.id, s.name, s.kind, s.cron,
       (extract(epoch from s.fixed_delay) * 1000)::bigint as fixed_delay_ms,
       (extract(epoch from s.fixed_rate) * 1000)::bigint as fixed_rate_ms, s.run_at, s.timezone, s.dst, s.status,
       s.overlap, s.max_running, s.misfire, (extract(epoch from s.misfire_grace) * 1000)::bigint as misfire_grace_ms,
       (extract(epoch from s.catch_up_window) * 1000)::bigint as catch_up_window_ms, s.catch_up_limit,
       (extract(epoch from s.start_deadline) * 1000)::bigint as start_deadline_ms,
       (extract(epoch from s.jitter) * 1000)::bigint as jitter_ms, s.first_fire, s.starts_at, s.ends_at, s.max_fires,
       s.fires_count, s.anchor_at, s.effective_from, s.last_fire_at, s.last_finished_at,
       case when isfinite(s.wake_at) then s.wake_at end as wake_at
from watchbell.backfills b
left join watchbell.schedules s on s.id = b.schedule_id
where b.id = $1 and b.status = 'pending'

-- Metrics of schedules: the first $1 by number, with what their next fire times are worked out from, and nine
-- times as many after them, of which only the worst is shown.
select s.id, s.version, s.name, s.kind, s.cron, (extract(epoch from s.fixed_delay) * 1000)::bigint as fixed_delay_ms,
       (extract(epoch from s.fixed_rate) * 1000)::bigint as fixed_rate_ms, s.run_at, s.timezone, s.dst, s.status,
       s.overlap, s.max_running, s.misfire, (extract(epoch from s.misfire_grace) * 1000)::bigint as misfire_grace_ms,
       (extract(epoch from s.catch_up_window) * 1000)::bigint as catch_up_window_ms, s.catch_up_limit,
       (extract(epoch from s.start_deadline) * 1000)::bigint as start_deadline_ms,
       (extract(epoch from s.jitter) * 1000)::bigint as jitter_ms, s.first_fire, s.starts_at, s.ends_at, s.max_fires,
       s.fires_count, s.anchor_at, s.effective_from, s.last_fire_at, s.last_finished_at,
       case when isfinite(s.wake_at) then s.wake_at end as wake_at, t.now, s.queue, s.handler, s.owner,
       extract(epoch from s.next_fire_at)::double precision as next_fire,
       extract(epoch from s.last_started_at)::double precision as last_start,
       extract(epoch from coalesce(s.last_success_at, s.created_at))::double precision as last_success,
       extract(epoch from s.last_duration)::double precision as last_duration,
       case when s.paused_at is not null or s.wake_at > t.now then 0
            else extract(epoch from t.now - case when isfinite(s.wake_at) then s.wake_at else s.updated_at end)
       end::double precision as overdue,
       s.consecutive_failures, s.paused_at is not null as paused
from watchbell.schedules s
cross join (select coalesce($2::timestamptz, clock_timestamp()) as now) t
order by s.id
limit $1 * 10

-- Replicas declare the same schedules at each start: what is the same stays as it is, plan and all, and an
-- older program does not undo what a newer one declared. A moment relative to now was fixed by the first.
on conflict (name) do update set
    cron = excluded.cron, fixed_delay = excluded.fixed_delay, fixed_rate = excluded.fixed_rate,
    run_at = case when $34::interval is null then excluded.run_at else coalesce(s.run_at, excluded.run_at) end,
    timezone = excluded.timezone, dst = excluded.dst, handler = excluded.handler, payload = excluded.payload,
    queue = excluded.queue, priority = excluded.priority, max_attempts = excluded.max_attempts, retry = excluded.retry,
    timeout = excluded.timeout, overlap = excluded.overlap, max_running = excluded.max_running,
    misfire = excluded.misfire, misfire_grace = excluded.misfire_grace, catch_up_window = excluded.catch_up_window,
    catch_up_limit = excluded.catch_up_limit, start_deadline = excluded.start_deadline, jitter = excluded.jitter,
    pause_after_failures = excluded.pause_after_failures, concurrency_key = excluded.concurrency_key,
    first_fire = excluded.first_fire,
    starts_at = case when $35::interval is null then excluded.starts_at
                     else coalesce(s.starts_at, excluded.starts_at) end,
    ends_at = excluded.ends_at,
    max_fires = excluded.max_fires, target = excluded.target, description = excluded.description,
    owner = excluded.owner, runbook_url = excluded.runbook_url, tags = excluded.tags,
    managed_by = excluded.managed_by, declared_version = coalesce(excluded.declared_version, s.declared_version),
    callback_url = excluded.callback_url, notify_channel = excluded.notify_channel,
    keep_alive = excluded.keep_alive, copies = excluded.copies
where coalesce(s.declared_version <= excluded.declared_version, true)
  and (s.cron, s.fixed_delay, s.fixed_rate, s.run_at, s.timezone, s.dst, s.handler, s.payload, s.queue, s.priority,
       s.max_attempts, s.retry, s.timeout, s.overlap, s.max_running, s.misfire, s.misfire_grace, s.catch_up_window,
       s.catch_up_limit, s.start_deadline, s.jitter, s.pause_after_failures, s.concurrency_key, s.first_fire,
       s.starts_at, s.ends_at, s.max_fires, s.target, s.description, s.owner, s.runbook_url, s.tags, s.managed_by,
       s.declared_version, s.callback_url, s.notify_channel, s.keep_alive, s.copies)
      is distinct from
      (excluded.cron, excluded.fixed_delay, excluded.fixed_rate,
       case when $34::interval is null then excluded.run_at else coalesce(s.run_at, excluded.run_at) end,
       excluded.timezone, excluded.dst,
       excluded.handler, excluded.payload, excluded.queue, excluded.priority, excluded.max_attempts, excluded.retry,
       excluded.timeout, excluded.overlap, excluded.max_running, excluded.misfire, excluded.misfire_grace,
       excluded.catch_up_window, excluded.catch_up_limit, excluded.start_deadline, excluded.jitter,
       excluded.pause_after_failures, excluded.concurrency_key, excluded.first_fire,
       case when $35::interval is null then excluded.starts_at else coalesce(s.starts_at, excluded.starts_at) end,
       excluded.ends_at, excluded.max_fires, excluded.target, excluded.description, excluded.owner,
       excluded.runbook_url, excluded.tags, excluded.managed_by,
       coalesce(excluded.declared_version, s.declared_version), excluded.callback_url, excluded.notify_channel,
       excluded.keep_alive, excluded.copies)
returning xmax = 0

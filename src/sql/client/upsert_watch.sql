-- Replicas declare the same watches at each start: what is the same stays as it is, plan and all, and an older
-- program does not undo what a newer one declared.
on conflict (name) do update set
    table_name = excluded.table_name, handler = excluded.handler, payload = excluded.payload,
    key_columns = excluded.key_columns, status_column = excluded.status_column, since_column = excluded.since_column,
    from_state = excluded.from_state, via_state = excluded.via_state, to_state = excluded.to_state,
    error_state = excluded.error_state, transitions = excluded.transitions, mode = excluded.mode,
    batch_size = excluded.batch_size, max_running = excluded.max_running, rate_limit = excluded.rate_limit,
    rate_period = excluded.rate_period, order_by = excluded.order_by, filter = excluded.filter,
    poll_interval = excluded.poll_interval, timeout = excluded.timeout, retry = excluded.retry,
    max_attempts = excluded.max_attempts, description = excluded.description, owner = excluded.owner,
    runbook_url = excluded.runbook_url, tags = excluded.tags, managed_by = excluded.managed_by,
    declared_version = coalesce(excluded.declared_version, w.declared_version)
where coalesce(w.declared_version <= excluded.declared_version, true)
  and (w.table_name, w.handler, w.payload, w.key_columns, w.status_column, w.since_column, w.from_state, w.via_state,
       w.to_state, w.error_state, w.transitions, w.mode, w.batch_size, w.max_running, w.rate_limit, w.rate_period,
       w.order_by, w.filter, w.poll_interval, w.timeout, w.retry, w.max_attempts, w.description, w.owner, w.runbook_url,
       w.tags, w.managed_by, w.declared_version)
      is distinct from
      (excluded.table_name, excluded.handler, excluded.payload, excluded.key_columns, excluded.status_column,
       excluded.since_column, excluded.from_state, excluded.via_state, excluded.to_state, excluded.error_state,
       excluded.transitions, excluded.mode, excluded.batch_size, excluded.max_running, excluded.rate_limit,
       excluded.rate_period, excluded.order_by, excluded.filter, excluded.poll_interval, excluded.timeout,
       excluded.retry, excluded.max_attempts, excluded.description, excluded.owner, excluded.runbook_url, excluded.tags,
       excluded.managed_by, coalesce(excluded.declared_version, w.declared_version))
returning xmax = 0

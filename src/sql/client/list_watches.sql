-- Watches for people, each with its steps and what a worker found of them.
select w.id, w.name, w.table_name, w.key_columns, w.status_column, w.since_column,
    coalesce(watchbell.watch_payload(w.id)::text, 'null') as payload, w.mode,
    w.batch_size, w.max_running, w.rate_limit, w.rate_period, w.order_by, w.filter, w.poll_interval, w.timeout,
    w.retry::text as retry, w.max_attempts, w.description, w.owner, w.runbook_url, w.tags, w.managed_by, w.status, w.error,
    w.plan::text as plan, w.planned_at, w.paused_at, w.paused_by, w.paused_until,
    w.pause_note, w.version, w.created_at, w.updated_at, w.steps::text as steps, w.wakes,
    v.in_work, v.waiting, v.capped, v.done, v.failed, v.retried, v.changed, v.last_at
from watchbell.watch_definitions w
join watchbell.watch_status v on v.name = w.name
where ($1::text is null or w.status = $1)
  and ($2::text is null or w.name = $2)
  and ($3::text is null or w.name > $3)
order by w.name
limit $4

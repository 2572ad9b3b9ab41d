-- One watch; its trigger checks the row against the catalog and turns NULL into a column's default, except for
-- timeout, where NULL is none.
insert into watchbell.watches as w (name, table_name, handler, payload, key_columns, status_column, since_column,
    from_state, via_state, to_state, error_state, transitions, mode, batch_size, max_running, rate_limit, rate_period,
    order_by, filter, poll_interval, timeout, retry, max_attempts, description, owner, runbook_url, tags, managed_by,
    declared_version)
values ($1, $2, $3, $4::jsonb, $5::text[], $6, $7, $8, $9, $10, $11, $12::jsonb, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22::jsonb, $23, $24, $25, $26, $27, $28, $29)

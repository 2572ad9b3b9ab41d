-- Metrics: keep what was read, for all workers to show.
insert into watchbell.cluster_metrics (read_values, read_at)
values ($1, coalesce($2::timestamptz, clock_timestamp()))
on conflict (only_one) do update set read_values = excluded.read_values, read_at = excluded.read_at
returning read_at

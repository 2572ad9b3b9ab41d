-- Register: one row per process start. The lease starts now.
with h as (
    insert into watchbell.handlers (name) select unnest($6::text[])
    on conflict (name) do update set last_seen_at = now()
), q as (
    insert into watchbell.queues (name) select unnest($7::text[]) on conflict (name) do nothing
)
insert into watchbell.workers (name, host, ip, pid, version, handlers, queues, labels, slots, lease_until)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9,
        coalesce($11::timestamptz, clock_timestamp()) + make_interval(secs => $10::bigint / 1000.0))
returning id

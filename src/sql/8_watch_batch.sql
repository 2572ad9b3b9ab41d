-- The keys that a worker is about to hand to handlers: if it dies, they are charged with it.
insert into watchbell.worker_batches (worker_id, watch_id, step, lane, keys)
values ($1, $2, $3, $4, $5::jsonb)
on conflict (worker_id, watch_id, step, lane) do update set keys = excluded.keys, started_at = clock_timestamp()

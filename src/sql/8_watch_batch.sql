-- The keys that a worker is about to hand to handlers: if it dies, they are charged with it. A worker that was declared
-- dead and does not know it yet, since it was frozen, notes nothing: its rows would be charged without a death.
insert into watchbell.worker_batches (worker_id, watch_id, step, lane, keys)
select $1::integer, $2::bigint, $3::text, $4::smallint, $5::jsonb
from watchbell.workers w
where w.id = $1 and w.state in ('starting', 'running', 'draining')
on conflict (worker_id, watch_id, step, lane) do update set keys = excluded.keys, started_at = clock_timestamp()

-- How many rows this worker moved on, gave up, and will try again, since it last said so.
insert into watchbell.watch_totals as t (watch_id, step, worker_id, done, failed, retried)
select n.watch_id, n.step, $1::integer, n.done, n.failed, n.retried
from unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) as n (watch_id, step, done, failed, retried)
on conflict (watch_id, step, worker_id) do update
set done = t.done + excluded.done, failed = t.failed + excluded.failed, retried = t.retried + excluded.retried,
    last_at = clock_timestamp()

-- What went wrong with rows of a watch: when each may be tried again, and the errors. Rows that are given up
-- (no delay) leave only their errors here. The caller has locked the rows.
with f as materialized (
    select array(select p.value collate "C" from jsonb_array_elements_text(r.key) with ordinality as p (value, n)
                 order by p.n) as key,
           r.attempt, r.delay_ms, r.kind, left(r.message, 4096) as message
    from jsonb_to_recordset($3::jsonb)
         as r (key jsonb, attempt integer, delay_ms bigint, kind text, message text)
), again as (
    insert into watchbell.watch_claims as c (watch_id, key, step, attempt, due_at, error, began_at)
    select $1::bigint, f.key, $2::text, f.attempt,
           watchbell.instant() + make_interval(secs => f.delay_ms / 1000.0), f.message,
           watchbell.instant()
    from f
    where f.delay_ms is not null
    order by f.key
    on conflict (watch_id, key) do update
    set step = excluded.step, attempt = excluded.attempt, due_at = excluded.due_at,
        error = coalesce(excluded.error, c.error),
        crashes = case when c.step = excluded.step then c.crashes else 0 end,
        began_at = case when c.step = excluded.step then c.began_at else excluded.began_at end
    where c.claimed_by is null
)
insert into watchbell.watch_errors (watch_id, key, step, attempt, worker_id, kind, message)
select $1::bigint, f.key, $2::text, f.attempt, $4::integer, f.kind, f.message
from f
where f.kind is not null

-- Rows that were in the hands of workers that died: each is charged with a crash, and will be tried alone.
with gone as materialized (
    select b.worker_id, b.watch_id, b.step, b.lane, b.keys
    from watchbell.worker_batches b
    where not exists (select from watchbell.workers w
                      where w.id = b.worker_id and w.state in ('starting', 'running', 'draining'))
    limit 100
    for update of b skip locked
), forgotten as (
    delete from watchbell.worker_batches b
    using gone g
    where b.worker_id = g.worker_id and b.watch_id = g.watch_id and b.step = g.step and b.lane = g.lane
), rows as (
    select distinct g.watch_id, k.key, g.step
    from gone g
    cross join lateral (
        select array(select p.value collate "C" from jsonb_array_elements_text(e.value) with ordinality as p (value, n)
                     order by p.n) as key
        from jsonb_array_elements(g.keys) e) k
    order by 1, 2
)
insert into watchbell.watch_claims as c (watch_id, key, step, crashes, error)
select r.watch_id, r.key, r.step, 1, 'its worker died' from rows r
on conflict (watch_id, key) do update
set crashes = case when c.step = excluded.step then c.crashes + 1 else 1 end,
    attempt = case when c.step = excluded.step then c.attempt else 0 end,
    began_at = case when c.step = excluded.step then c.began_at else excluded.began_at end,
    step = excluded.step, error = excluded.error
where c.claimed_by is null
returning coalesce((select w.name from watchbell.watches w where w.id = c.watch_id), c.watch_id::text), c.step, c.key,
          c.crashes

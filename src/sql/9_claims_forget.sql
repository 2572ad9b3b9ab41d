-- Leased, forget: what is left of watches and steps that are gone, and counts of workers that are: those are added to
-- one row.
with gone as (
    delete from watchbell.watch_claims c
    where (c.watch_id, c.key) in (
        select c.watch_id, c.key from watchbell.watch_claims c
        where not exists (
                  select from watchbell.watches w
                  where w.id = c.watch_id
                    and case when jsonb_typeof(w.transitions) = 'array'
                             then exists (select from jsonb_array_elements(w.transitions) t (step)
                                          where coalesce(t.step ->> 'from', w.from_state) = c.step)
                             else c.step = w.from_state end)
          -- their rows have to go back first
          and not exists (select from watchbell.watch_remains r where r.watch_id = c.watch_id)
          and not exists (select from watchbell.workers w
                          where w.id = c.claimed_by and w.state in ('starting', 'running', 'draining'))
        limit 1000
        for update skip locked)
), uncounted as (
    delete from watchbell.watch_totals t
    where not exists (select from watchbell.watches w where w.id = t.watch_id)
), past as (
    delete from watchbell.watch_totals t
    where t.worker_id <> 0
      and exists (select from watchbell.watches w where w.id = t.watch_id)
      and not exists (select from watchbell.workers w
                      where w.id = t.worker_id
                        and (w.state in ('starting', 'running', 'draining') or w.ended_at > now() - interval '1 hour'))
    returning t.watch_id, t.step, t.done, t.failed, t.retried, t.changed, t.last_at
)
insert into watchbell.watch_totals as t (watch_id, step, worker_id, done, failed, retried, changed, last_at)
select p.watch_id, p.step, 0, sum(p.done), sum(p.failed), sum(p.retried), sum(p.changed), max(p.last_at)
from past p group by p.watch_id, p.step
on conflict (watch_id, step, worker_id) do update
set done = t.done + excluded.done, failed = t.failed + excluded.failed, retried = t.retried + excluded.retried,
    changed = t.changed + excluded.changed, last_at = greatest(t.last_at, excluded.last_at)

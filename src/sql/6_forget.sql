-- Forget: workers long gone, requests long handled, backfills long done, limits of one schedule on one worker that
-- is long gone.
with w as (
    delete from watchbell.workers w
    where w.state in ('stopped', 'dead') and w.ended_at < clock_timestamp() - interval '7 days'
      and not exists (select from watchbell.runs_live r where r.claimed_by = w.id)
), b as (
    delete from watchbell.backfills b where b.finished_at < clock_timestamp() - interval '30 days'
), l as (
    delete from watchbell.limits l
    where l.key in (
        select x.key from watchbell.limits x
        where x.key ~ '^schedule:[0-9]+:[0-9]+$' and x.running = 0
          and not exists (select from watchbell.workers w where w.id::text = split_part(x.key, ':', 3))
          and not exists (select from watchbell.runs_live r where r.concurrency_key = x.key)
        order by x.key limit 1000 for no key update skip locked)
)
delete from watchbell.worker_requests q where q.handled_at < clock_timestamp() - interval '7 days'

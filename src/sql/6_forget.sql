-- Forget: workers long gone, requests long handled, backfills long done.
with w as (
    delete from watchbell.workers w
    where w.state in ('stopped', 'dead') and w.ended_at < clock_timestamp() - interval '7 days'
      and not exists (select from watchbell.runs_live r where r.claimed_by = w.id)
), b as (
    delete from watchbell.backfills b where b.finished_at < clock_timestamp() - interval '30 days'
)
delete from watchbell.worker_requests q where q.handled_at < clock_timestamp() - interval '7 days'

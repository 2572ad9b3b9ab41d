-- Mend: waiting runs that are aimed at a worker which has ended. Those of a schedule that was deleted meanwhile, or that
-- people aimed, are found only by reading all open runs: done for two minutes after a worker ended.
select watchbell.end_stranded(
    $1 or exists (select from watchbell.workers w where w.ended_at > t.now - interval '2 minutes'), t.now)
from (select coalesce($2::timestamptz, clock_timestamp()) as now) t

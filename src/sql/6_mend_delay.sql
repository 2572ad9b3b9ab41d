-- Mend: a fixed_delay schedule that waits for the end of a run that is not there (someone deleted it).
update watchbell.schedules s
set wake_at = greatest(t.now, s.last_fire_at + interval '1 microsecond', coalesce(s.last_finished_at, t.now)
                       + make_interval(secs => extract(epoch from s.fixed_delay)::double precision))
from (select coalesce($1::timestamptz, clock_timestamp()) as now) t
where s.id in (
    select x.id from watchbell.schedules x
    where x.kind = 'fixed_delay' and x.status = 'normal' and x.wake_at = 'infinity' and x.paused_at is null
      and not exists (select from watchbell.runs_live r where r.schedule_id = x.id and r.trigger in ('schedule', 'keep_alive'))
    order by x.id for no key update skip locked)

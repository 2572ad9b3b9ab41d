-- Mend: copies that have lived for a minute are no crash loop any more, and one whose run is gone is planned afresh.
with c as materialized (
    select c.schedule_id, c.copy, r.id is null as gone
    from watchbell.copies c
    left join watchbell.runs_live r on r.id = c.run_id
    where c.run_id is not null
      and (r.id is null or c.restarts > 0 and r.status = 'running'
                           and r.started_at <= coalesce($1::timestamptz, clock_timestamp()) - interval '1 minute')
), s as materialized (
    select s.id from watchbell.schedules s
    where s.id in (select c.schedule_id from c) and s.keep_alive and s.paused_at is null
    order by s.id for no key update skip locked
), healthy as (
    update watchbell.copies x set restarts = 0
    from c join s on s.id = c.schedule_id
    where x.schedule_id = c.schedule_id and x.copy = c.copy and not c.gone
)
update watchbell.schedules x
set crash_loop_since = case when exists (
        select from watchbell.copies y
        where y.schedule_id = x.id and y.restarts >= 5
          and not exists (select from c where c.schedule_id = y.schedule_id and c.copy = y.copy and not c.gone))
        then x.crash_loop_since end,
    wake_at = case when again.yes then '-infinity' else x.wake_at end,
    status = case when again.yes then 'pending' else x.status end
from s
cross join lateral (
    select exists (select from c where c.schedule_id = s.id and c.gone) as yes) g
cross join lateral (select g.yes and z.status = 'normal' as yes from watchbell.schedules z where z.id = s.id) again
where x.id = s.id

-- Fire, of schedules that are kept alive, after their runs were made: the copies as they stand now. One that starts
-- has the run of its fire time.
with p as materialized (
    select p.schedule_id, p.copy, coalesce(p.run_id, f.run_id) as run_id, p.restart_at, p.restarts
    from unnest($2::bigint[], $3::integer[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::integer[])
         as p (schedule_id, copy, run_id, fire_at, restart_at, restarts)
    left join watchbell.fires f on f.schedule_id = p.schedule_id and f.fire_at = p.fire_at
), gone as (
    delete from watchbell.copies c
    where c.schedule_id = any ($1::bigint[])
      and not exists (select from p where p.schedule_id = c.schedule_id and p.copy = c.copy)
)
insert into watchbell.copies (schedule_id, copy, run_id, restart_at, restarts)
select p.schedule_id, p.copy, p.run_id, p.restart_at, p.restarts from p
on conflict (schedule_id, copy) do update
set run_id = excluded.run_id, restart_at = excluded.restart_at, restarts = excluded.restarts

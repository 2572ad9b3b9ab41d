-- Fire: a streak of skips is one row. Where the schedule's last row stands for skips of the same kind up to its last fire
-- time, new ones are added to it. Answers the schedules where that was so.
update watchbell.fires f
set until = p.last, missed = f.missed + p.missed
from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::timestamptz[], $6::bigint[])
     as p (schedule_id, streak_at, last_fire_at, disposition, last, missed)
where f.schedule_id = p.schedule_id and f.fire_at = p.streak_at and f.disposition = p.disposition and f.run_id is null
  and coalesce(f.until, f.fire_at) = p.last_fire_at
returning f.schedule_id

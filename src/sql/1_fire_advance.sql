-- Fire, last: move the schedules on, in the same transaction as their fires and runs. Answers those about whose clock at
-- the next fire time ($10, as the worker's zone data have it) the database thinks otherwise.
with moved as (
    update watchbell.schedules s
    set wake_at = coalesce(p.wake_at, 'infinity'),
        status = p.status,
        error = p.error,
        anchor_at = coalesce(p.anchor_at, s.anchor_at),
        last_fire_at = greatest(s.last_fire_at, p.last_fire_at),
        fires_count = s.fires_count + p.fired,
        crash_loop_since = p.crash_loop_since,
        streak_at = p.streak_at,
        tz_mismatch = case when p.wall is not null then watchbell.zone_problem(p.wake_at, p.zone, p.wall) end
    from unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                $7::bigint[], $8::timestamptz[], $9::timestamptz[], $10::timestamp[], $11::text[])
         as p (id, wake_at, status, error, anchor_at, last_fire_at, fired, crash_loop_since, streak_at, wall, zone)
    where s.id = p.id
    returning s.id, s.tz_mismatch
)
select m.id, m.tz_mismatch from moved m where m.tz_mismatch is not null

-- Fire, last: move the schedules on, in the same transaction as their fires and runs.
update watchbell.schedules s
set wake_at = coalesce(p.wake_at, 'infinity'),
    status = p.status,
    error = p.error,
    anchor_at = coalesce(p.anchor_at, s.anchor_at),
    last_fire_at = greatest(s.last_fire_at, p.last_fire_at),
    fires_count = s.fires_count + p.fired
from unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::bigint[])
     as p (id, wake_at, status, error, anchor_at, last_fire_at, fired)
where s.id = p.id

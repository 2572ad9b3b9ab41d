-- Testing: the next time at which something comes due that these handlers can do, or a pause runs out.
select least(
    (select min(s.wake_at) from watchbell.schedules s
     where s.paused_at is null and s.wake_at > $1 and s.wake_at < 'infinity'),
    (select min(s.paused_until) from watchbell.schedules s where s.paused_until > $1),
    (select min(r.run_at) from watchbell.runs_live r
     where r.status = 'pending' and r.run_at > $1 and r.handler = any ($2::text[])))

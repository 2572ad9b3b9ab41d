-- Finish, last: a schedule that has failed often enough in a row is paused, with the reason.
update watchbell.schedules s
set paused_at = coalesce($2::timestamptz, clock_timestamp()), paused_by = 'watchbell',
    pause_note = format('paused after %s failures in a row', s.consecutive_failures)
where s.id = any ($1::bigint[]) and s.paused_at is null and s.consecutive_failures >= s.pause_after_failures
returning s.name, s.consecutive_failures

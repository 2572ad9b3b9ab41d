-- A table is not what it was when its watch was planned.
update watchbell.watches w set wake_at = '-infinity'
where w.id = $1 and w.wake_at > watchbell.instant() and w.planned_at < watchbell.instant() - interval '5 seconds'

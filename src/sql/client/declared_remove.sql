-- Schedules that their owner declares no longer; their runs stay.
delete from watchbell.schedules s where s.id = any ($1::bigint[])

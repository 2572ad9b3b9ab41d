-- Resume schedules whose pause has run out; the table's trigger has them planned anew from now.
update watchbell.schedules s
set paused_at = null, paused_by = null, paused_until = null, pause_note = null
where s.paused_until <= coalesce($1::timestamptz, clock_timestamp())
returning s.name

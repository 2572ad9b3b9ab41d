-- A pause has run out.
update watchbell.watches w
set paused_at = null, paused_by = null, paused_until = null, pause_note = null
where w.id = $1 and w.paused_until <= watchbell.instant()

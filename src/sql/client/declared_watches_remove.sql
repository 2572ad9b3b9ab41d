-- Watches that their owner declares no longer; the rows of their tables stay.
delete from watchbell.watches w where w.id = any ($1::bigint[])

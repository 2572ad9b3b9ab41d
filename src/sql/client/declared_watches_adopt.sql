-- Watches that change hands: the version counts within one owner, so the former one's is forgotten.
update watchbell.watches w set declared_version = null where w.id = any ($1::bigint[])

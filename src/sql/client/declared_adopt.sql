-- Schedules that change hands: the version counts within one owner, so the former one's is forgotten.
update watchbell.schedules s set declared_version = null where s.id = any ($1::bigint[])

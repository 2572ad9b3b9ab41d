-- Finish, second: the concurrency limits to be counted down, in the order of their keys, likewise.
select l.key from watchbell.limits l where l.key = any ($1::text[]) order by l.key for no key update skip locked

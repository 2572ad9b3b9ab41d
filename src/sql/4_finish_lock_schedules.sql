-- Finish, before anything else: the schedules that must be written, in the order of their ids. One that
-- somebody else holds (a psql session with an open edit) is left out, and so are its runs, for now.
select s.id from watchbell.schedules s where s.id = any ($1::bigint[]) order by s.id for no key update skip locked

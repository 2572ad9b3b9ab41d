-- The schedules of these names and all of this owner, locked in the engine's order until the declaration commits.
select s.id, s.name, s.managed_by, s.declared_version
from watchbell.schedules s
where s.name = any ($1::text[]) or s.managed_by = $2::text
order by s.id
for no key update

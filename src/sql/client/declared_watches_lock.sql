-- The watches of these names and all of this owner, locked in the engine's order until the declaration commits.
select w.id, w.name, w.managed_by, w.declared_version
from watchbell.watches w
where w.name = any ($1::text[]) or w.managed_by = $2::text
order by w.id
for no key update

-- What came of planning a watch, unless it was edited meanwhile or a person holds it: then somebody plans it again.
update watchbell.watches w
set status = case when $3::text is null then 'normal' else 'invalid' end,
    error = $3, plan = coalesce($4::jsonb, w.plan), planned_at = watchbell.instant(),
    wake_at = watchbell.instant() + case when $3::text is null then interval '1 hour' else interval '1 minute' end
from (select o.id from watchbell.watches o where o.id = $1 and o.version = $2 for no key update of o skip locked) o
where w.id = o.id

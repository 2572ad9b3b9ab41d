-- What came of planning a watch ($3 why it is invalid, $4 its plan), unless it was edited or planned meanwhile or a
-- person holds it: then somebody plans it again. $6: some step waits for the word of a worker that has its handler.
-- Answers what it was before.
update watchbell.watches w
set status = case when $3::text is not null then 'invalid' when $6::boolean then 'pending' else 'normal' end,
    error = $3, plan = coalesce($4::jsonb, w.plan), planned_at = watchbell.instant(),
    wake_at = watchbell.instant()
              + case when $3::text is null and not $6::boolean then interval '1 hour' else interval '1 minute' end
from (select o.id, o.status, o.error from watchbell.watches o
      where o.id = $1 and o.version = $2 and o.plan is not distinct from $5::jsonb
      for no key update of o skip locked) o
where w.id = o.id
returning o.status as status_before, o.error as error_before

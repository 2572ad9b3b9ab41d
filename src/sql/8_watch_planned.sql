-- What came of planning a watch, unless it was edited meanwhile.
update watchbell.watches w
set status = case when $3::text is null then 'normal' else 'invalid' end,
    error = $3, plan = $4::jsonb, planned_at = watchbell.instant(),
    wake_at = watchbell.instant() + case when $3::text is null then interval '1 hour' else interval '1 minute' end
where w.id = $1 and w.version = $2

-- Leased, release: a claim whose row cannot be moved now, since its watch cannot be planned. It waits for the sweep,
-- or for the step.
update watchbell.watch_claims c
set claimed_by = null, claimed_at = null, error = coalesce($6, c.error)
where c.watch_id = $1 and c.key = $2 and c.id = $3 and c.fence = $4 and c.claimed_by = $5

-- Leased, strays: claims of this worker that it does not hold ($2, by their numbers): their reply was lost.
select c.watch_id, c.key, c.step, c.id, c.fence, c.claimed_by, c.attempt, c.crashes, false as spared
from watchbell.watch_claims c
where c.claimed_by = $1 and not c.id = any ($2::bigint[])
order by c.watch_id, c.step, c.key
limit 200

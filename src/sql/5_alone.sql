-- What a worker executes alone, since it took two workers down: a run's number, or the negative of a claim's.
update watchbell.workers w set alone = $2 where w.id = $1

-- Give up: a worker that dropped its runs because its lease was about to end. Rescue returns them, as after any death.
update watchbell.workers w set state = 'dead', ended_at = clock_timestamp()
where w.id = $1 and w.state in ('starting', 'running', 'draining')

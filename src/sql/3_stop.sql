update watchbell.workers w set state = 'stopped', ended_at = clock_timestamp()
where w.id = $1 and w.state in ('starting', 'running', 'draining')

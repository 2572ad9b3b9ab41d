update watchbell.worker_requests q set handled_at = clock_timestamp() where q.id = any ($1::bigint[]) and q.handled_at is null

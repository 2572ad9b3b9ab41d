-- Nothing is in the hands of this worker's handlers any more.
delete from watchbell.worker_batches b where b.worker_id = $1 and b.watch_id = $2 and b.step = $3 and b.lane = $4

-- Rows that could have started and were not there.
update watchbell.watch_rates r set allowance = r.allowance + $3::bigint where r.watch_id = $1 and r.step = $2

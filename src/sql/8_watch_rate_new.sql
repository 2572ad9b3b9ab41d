-- A step has a rate from now on.
insert into watchbell.watch_rates (watch_id, step, allowance, at) values ($1, $2, 1, watchbell.instant())
on conflict (watch_id, step) do nothing

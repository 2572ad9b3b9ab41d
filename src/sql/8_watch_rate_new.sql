-- A step has a rate from now on.
insert into watchbell.watch_rates (watch_id, step, allowance, at) values ($1, $2, 1, clock_timestamp())
on conflict (watch_id, step) do nothing

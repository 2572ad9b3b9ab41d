-- The row that counts a limited queue's runs.
insert into watchbell.limits (key, max_running) values ('queue:' || $1::text, 1000000) on conflict (key) do nothing

-- Handlers: made known before the schedules that name them, which would warn of unknown ones otherwise.
insert into watchbell.handlers (name) select unnest($1::text[]) on conflict (name) do nothing

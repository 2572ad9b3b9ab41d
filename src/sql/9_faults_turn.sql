-- Faults, turn: whether it is time to look at the rows of a watch again. No row: a worker did so within the last minute.
insert into watchbell.watch_looks as l (watch_id, looked_at)
select w.id, watchbell.instant() from watchbell.watches w where w.id = $1
on conflict (watch_id) do update set looked_at = excluded.looked_at
where l.looked_at < excluded.looked_at - interval '50 seconds'
returning l.watch_id

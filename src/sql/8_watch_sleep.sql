-- Some step of a watch on this table rests: whoever changes the table is to wake us, by NOTIFY, until then.
insert into watchbell.watch_sleepers as s (relation, sleepers_until)
values ($1, clock_timestamp() + interval '20 seconds')
on conflict (relation) do update
set sleepers_until = excluded.sleepers_until
where s.sleepers_until < clock_timestamp() + interval '12 seconds'

-- Going to deep sleep: producers are to wake us, by NOTIFY, until then.
update watchbell.queues q
set sleepers_until = clock_timestamp() + interval '20 seconds'
where ($1::text[] is null or q.name = any ($1::text[])) and q.sleepers_until < clock_timestamp() + interval '12 seconds'

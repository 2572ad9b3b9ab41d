-- Concurrency keys, by name: how many run, and how many may.
select l.key, l.max_running, l.running
from watchbell.limits l
order by l.key
limit 10000

-- The last rows of a run's output, the latest first.
select o.bytes
from watchbell.run_output o
where o.run_id = $1
order by o.attempt desc, o.seq desc
limit $2

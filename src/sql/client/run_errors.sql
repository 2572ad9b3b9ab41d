-- Why each attempt of a run failed, the first failure first.
select e.attempt, e.kind, e.message, e.at
from watchbell.run_errors e
where e.run_id = $1
order by e.fence, e.at

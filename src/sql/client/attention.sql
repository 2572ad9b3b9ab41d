-- What needs a person, the worst first; 1,000 at most.
select a.severity, a.kind, a.subject_kind, a.subject, case when isfinite(a.since) then a.since end as since, a.reason,
    a.command
from watchbell.attention a
limit 1000

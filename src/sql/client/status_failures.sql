-- What failed last, within the 7 days of the view.
select f.id, f.handler, f.queue, f.schedule_name, f.attempt, f.finished_at, f.error, f.retried_as
from watchbell.recent_failures f
order by f.finished_at desc
limit $1

-- Watches for one screen, with what is in the hands of workers.
select v.name, v.table_name, case when v.paused_at is not null then 'paused' else v.status end as status,
       v.in_work, v.waiting as retrying, v.capped
from watchbell.watch_status v
order by v.name
limit $1

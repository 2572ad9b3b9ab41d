-- What there is to watch: all watches, and which of them somebody is to plan anew.
select w.id, w.version, w.planned_at, w.paused_at is not null as paused, w.wake_at <= watchbell.instant() as unplanned
from watchbell.watches w
order by w.id

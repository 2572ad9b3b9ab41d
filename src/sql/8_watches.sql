-- What there is to watch: all watches, which of them somebody is to plan anew, and of which the word of a worker that
-- is gone still stands about a step that we ($1: our handlers) can speak of.
select w.id, w.name, w.version, w.planned_at, w.paused_at is not null as paused, w.paused_until,
       w.wake_at <= watchbell.instant() as unplanned,
       exists (select from jsonb_array_elements(w.plan -> 'steps') s
               where s ->> 'handler' = any ($1::text[]) and s ->> 'worker' is not null
                 and not exists (select from watchbell.workers o
                                 where o.id = (s ->> 'worker')::integer and o.state in ('starting', 'running')
                                   and o.lease_until > watchbell.instant())) as orphaned
from watchbell.watches w
order by w.id

-- Limited queues that may have something to start: those of which a due run is not counted yet, and those
-- of which a run waits under the queue's key with room for it.
with recursive keys (key) as (
    (select r.concurrency_key from watchbell.runs_live r
     where r.concurrency_key > 'queue:' and r.concurrency_key < 'queue;' order by r.concurrency_key limit 1)
    union all
    select (select r.concurrency_key from watchbell.runs_live r
            where r.concurrency_key > k.key and r.concurrency_key < 'queue;' order by r.concurrency_key limit 1)
    from keys k where k.key is not null
)
select q.name
from watchbell.queues q
left join watchbell.limits l on l.key = 'queue:' || q.name
where q.paused_at is null and ($1::text[] is null or q.name = any ($1::text[]))
  and ((q.limited and (
            exists (select from watchbell.runs_live r
                    where r.queue = q.name and r.concurrency_key is null and r.run_at <= coalesce($2::timestamptz, now()))
            or exists (select from watchbell.runs_live r
                       where r.queue = q.name and r.concurrency_key not like 'queue:%')))
       or ('queue:' || q.name in (select k.key from keys k)
           and (not q.limited
                or coalesce(l.running, 0) < case when q.fifo then 1 else coalesce(q.max_running, 1000000) end)))

-- Lanes: every (queue, priority) that holds runs, found by a loose index scan, each with the place of the
-- entry that is 5,000 after the sweep's cursor: the ceiling of one sweep, so that its cost has a limit.
-- Of a limited queue only whether it holds due runs that have not got its key yet: they are claimed elsewhere.
with recursive lanes (queue, priority) as (
    (select r.queue, r.priority from watchbell.runs_live r
     where r.concurrency_key is null order by r.queue, r.priority limit 1)
    union all
    select n.queue, n.priority
    from lanes l
    cross join lateral (
        select r.queue, r.priority from watchbell.runs_live r
        where r.concurrency_key is null and (r.queue, r.priority) > (l.queue, l.priority)
        order by r.queue, r.priority limit 1
    ) n
)
select l.queue, l.priority, c.run_at, c.id, q.limited
from lanes l
join watchbell.queues q on q.name = l.queue and q.paused_at is null
left join unnest($2::text[], $3::smallint[], $4::timestamptz[], $5::bigint[]) as m (queue, priority, from_at, from_id)
       on m.queue = l.queue and m.priority = l.priority
left join lateral (
    select r.run_at, r.id from watchbell.runs_live r
    where not q.limited and r.queue = l.queue and r.priority = l.priority and r.concurrency_key is null
      and (r.run_at, r.id) >= (coalesce(m.from_at, '-infinity'), coalesce(m.from_id, 0))
      and r.run_at <= coalesce($6::timestamptz, now())
    order by r.run_at, r.id
    offset 5000 limit 1
) c on true
where ($1::text[] is null or l.queue = any ($1::text[]))
  and (not q.limited or exists (
          select from watchbell.runs_live r
          where r.queue = l.queue and r.priority = l.priority and r.concurrency_key is null
            and r.run_at <= coalesce($6::timestamptz, now())))
order by l.priority, l.queue

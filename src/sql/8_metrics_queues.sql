-- Metrics of queues: what waits and runs, and for how long, of at most $1 open runs. With more than that in all,
-- each lane (a queue and priority) and the runs with keys are looked at up to an equal share: the oldest of each
-- are seen however many there are, and the counts are lower bounds. Finished runs are not looked at.
with recursive t as materialized (
    select coalesce($2::timestamptz, clock_timestamp()) as now
), lanes (queue, priority, n) as (
    (select r.queue, r.priority, 1 from watchbell.runs_live r
     where r.concurrency_key is null order by r.queue, r.priority limit 1)
    union all
    select n.queue, n.priority, l.n + 1
    from lanes l
    cross join lateral (
        select r.queue, r.priority from watchbell.runs_live r
        where r.concurrency_key is null and (r.queue, r.priority) > (l.queue, l.priority)
        order by r.queue, r.priority limit 1
    ) n
    where l.n < 2000
), share as materialized (
    select case when (select count(*) from (select from watchbell.runs_live r limit $1 + 1) x) <= $1 then $1
                else greatest($1 / (1 + (select count(*) from lanes)), 100) end as n
), seen as materialized (
    select x.queue, x.handler, x.target, x.status = 'running' as running, x.run_at, x.started_at
    from lanes l cross join share cross join lateral (
        select r.queue, r.handler, r.target, r.status, r.run_at, r.started_at
        from watchbell.runs_live r
        where r.queue = l.queue and r.priority = l.priority and r.concurrency_key is null
        order by r.run_at, r.id
        limit share.n) x
    union all
    select x.queue, x.handler, x.target, x.status = 'running', x.run_at, x.started_at
    from share cross join lateral (
        select r.queue, r.handler, r.target, r.status, r.run_at, r.started_at
        from watchbell.runs_live r
        where r.concurrency_key is not null
        order by r.concurrency_key, r.priority, r.run_at, r.id
        limit share.n) x
), counted as (
    select s.queue, count(*) filter (where not s.running) as pending, count(*) filter (where s.running) as running,
           extract(epoch from t.now - min(s.run_at) filter (where not s.running and s.run_at <= t.now)) as oldest_pending,
           extract(epoch from t.now - min(s.started_at) filter (where s.running)) as oldest_running
    from seen s cross join t
    group by s.queue, t.now
), queues as (
    select q.name, q.paused_at is not null as paused from watchbell.queues q order by q.name limit 1000
), lost as (
    select d.handler, sum(d.n) as n
    from (select s.handler, s.queue, s.target, count(*) as n
          from seen s cross join t where not s.running and s.run_at <= t.now
          group by s.handler, s.queue, s.target) d
    where not exists (
        select from watchbell.workers w cross join t
        where w.state in ('starting', 'running') and w.lease_until > t.now and d.handler = any (w.handlers)
          and (w.queues is null or d.queue = any (w.queues))
          and (d.target is null or string_to_array(d.target, ',') <@ w.labels))
    group by d.handler
)
select (select coalesce(jsonb_agg(jsonb_build_object(
                   'name', q.name, 'paused', q.paused, 'pending', coalesce(c.pending, 0), 'running', coalesce(c.running, 0),
                   'oldest_pending', greatest(coalesce(c.oldest_pending, 0), 0),
                   'oldest_running', greatest(coalesce(c.oldest_running, 0), 0))), '[]')
        from queues q left join counted c on c.queue = q.name),
       (select coalesce(jsonb_object_agg(h.name, h.n), '{}')
        from (select h.name, coalesce(l.n, 0) as n
              from (select k.name from watchbell.handlers k union select lost.handler from lost) h
              left join lost l on l.handler = h.name
              order by coalesce(l.n, 0) desc, h.name limit 1000) h)

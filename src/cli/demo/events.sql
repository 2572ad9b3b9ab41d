-- What happened in the last seconds: runs that ended, attempts that failed, the long run that started,
-- rows that a worker moved.
-- Rows commit a little after the time they carry, so the caller reads a window again and drops what it saw.
with recent as (
    select f.finished_at as at, f.status as what, f.id, f.fence, f.claimed_by,
           coalesce(f.schedule_name, f.handler) as name, f.attempt, f.max_attempts,
           extract(epoch from f.finished_at - f.started_at)::float8 as seconds, null::text as message, f.started_at
    from watchbell.runs_finished f
    where f.queue = $1 and f.finished_at >= $2 and f.finished_at > clock_timestamp() - interval '10 s'
    union all
    select e.at, 'attempt', e.run_id, e.fence, e.worker_id, coalesce(r.schedule_name, r.handler), e.attempt, r.max_attempts,
           case when r.status = 'pending' then extract(epoch from r.run_at - e.at)::float8 end, e.message, null
    from watchbell.run_errors e
    join watchbell.runs r on r.id = e.run_id and r.queue = $1
    where e.at >= $2 and e.at > clock_timestamp() - interval '10 s' and e.kind not in ('crashed', 'cancelled')
    union all
    select l.started_at, 'started', l.id, l.fence, l.claimed_by, coalesce(l.schedule_name, l.handler), l.attempt, l.max_attempts,
           null, (select format('goes on after step %s', s.done) from demo.steps s where s.run_id = l.id and l.attempt > 1), null
    from watchbell.runs_live l
    where l.queue = $1 and l.status = 'running' and l.started_at >= $2 and l.handler = 'slow'
)
select r.at, r.what, r.id, r.fence, w.pid, r.name, r.attempt, r.max_attempts, r.seconds, r.message,
       case when r.what = 'normal' and r.name = 'demo.arrive' then
           (select string_agg(h.name, ', ' order by h.id) from demo.hosts h where h.created_at between r.started_at and r.at)
       end as hosts
from recent r
left join watchbell.workers w on w.id = r.claimed_by
union all
select max(i.at), 'moved', i.moved_in::text::bigint, 0, i.worker_pid, 'demo.init', 1, 1::smallint, null, null,
       string_agg(h.name, ', ' order by h.id)
from demo.inventory i
join demo.hosts h on h.id = i.host_id
where i.at >= $2 and i.at > clock_timestamp() - interval '10 s'
group by i.moved_in, i.worker_pid
order by 1, 3

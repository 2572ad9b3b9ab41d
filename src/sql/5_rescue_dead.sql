-- Rescue, first: declare workers dead. By presence: the lock of its session is free and its heartbeat is
-- late; or by its lease. Which of the two this worker may judge by, the caller knows ($2, $3).
with late as materialized (
    select w.id
    from watchbell.workers w
    cross join (select coalesce($4::timestamptz, clock_timestamp()) as now) t
    where w.state in ('starting', 'running', 'draining') and w.id <> $1
      and (($2 and w.presence and w.heartbeat_at < t.now - interval '1.5 seconds'
            and not exists (
                select from pg_locks l
                where l.locktype = 'advisory' and l.classid = 30562 and l.objid = w.id::oid and l.objsubid = 2
                  and l.granted
                  and l.database = (select d.oid from pg_database d where d.datname = current_database())))
           or ($3 and w.lease_until < t.now))
    order by w.id
    for no key update of w skip locked
)
update watchbell.workers w
set state = 'dead', ended_at = coalesce($4::timestamptz, clock_timestamp())
from late
where w.id = late.id
returning w.id, w.name, w.host, w.pid,
          (extract(epoch from coalesce($4::timestamptz, clock_timestamp()) - w.heartbeat_at) * 1000)::bigint

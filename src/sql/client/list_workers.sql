-- Workers for people, the newest first; all of them ($1), or those that have not ended.
select w.id, w.name, w.host, w.ip, w.pid, w.version, w.state, w.slots, w.running, w.queues, w.handlers, w.labels,
    w.started_at, w.heartbeat_at, w.heartbeat_age, w.lease_until, w.drain_requested_at, w.ended_at
from watchbell.worker_status w
where ($1 or w.ended_at is null)
  and ($2::integer is null or w.id = $2)
order by w.ended_at is not null, w.id desc
limit 10000

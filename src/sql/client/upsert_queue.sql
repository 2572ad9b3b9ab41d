-- A queue with its limits: its trigger checks them. What is the same already stays untouched, so that replicas that
-- declare it at each start write nothing.
insert into watchbell.queues as q (name, max_running, fifo, rate_limit, rate_period, max_pending)
values ($1, $2, $3, $4, coalesce($5::interval, '1 s'), $6)
on conflict (name) do update set
    max_running = excluded.max_running, fifo = excluded.fifo, rate_limit = excluded.rate_limit,
    rate_period = excluded.rate_period, max_pending = excluded.max_pending
where (q.max_running, q.fifo, q.rate_limit, q.rate_period, q.max_pending)
      is distinct from
      (excluded.max_running, excluded.fifo, excluded.rate_limit, excluded.rate_period, excluded.max_pending)
returning xmax = 0

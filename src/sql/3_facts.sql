-- Facts: what a worker says of itself beside its heartbeat, when that changes.
update watchbell.workers w
set clock_skew = make_interval(secs => $2::double precision),
    retention = make_interval(secs => $3::double precision),
    schema_version = $4,
    draining_until = case when $5::double precision is not null
                          then coalesce(w.draining_until, clock_timestamp() + make_interval(secs => $5)) end
where w.id = $1

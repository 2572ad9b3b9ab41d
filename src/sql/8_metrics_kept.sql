-- Metrics: what was read last, and how old it is in seconds.
select c.read_at, extract(epoch from coalesce($1::timestamptz, clock_timestamp()) - c.read_at)::double precision, c.read_values
from watchbell.cluster_metrics c

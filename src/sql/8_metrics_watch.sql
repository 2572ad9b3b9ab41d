-- Metrics of one watch: how many rows of its table stand in a state that a step takes them from, each state counted up
-- to $2, and for how many seconds the oldest has. The first is NULL where counting would read a large table, the
-- second also where the watch has no since_column.
select sum(c.rows) filter (where c.role = 'waiting')::bigint,
       case when w.since_column is not null and count(c.rows) filter (where c.role = 'waiting') > 0 then
           coalesce(greatest(extract(epoch from coalesce($3::timestamptz, clock_timestamp())
                                               - min(c.oldest) filter (where c.role = 'waiting')), 0), 0)
       end::double precision
from watchbell.watches w
cross join lateral watchbell.watch_counts(w.name, $2) c
where w.name = $1
group by w.id, w.since_column

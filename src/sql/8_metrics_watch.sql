-- Metrics of one watch: how many rows of its table a step would take, those of each state counted up to $2; for how many
-- seconds the oldest has stood there; and how many states could not be counted. The first is NULL if none could be, the
-- second also where the watch has no since_column and no row that failed.
select sum(c.rows)::bigint,
       case when (w.since_column is not null or min(c.oldest) is not null) and count(c.rows) > 0 then
           coalesce(greatest(extract(epoch from coalesce($3::timestamptz, clock_timestamp()) - min(c.oldest)), 0), 0)
       end::double precision,
       count(*) - count(c.rows)
from watchbell.watches w
cross join lateral watchbell.watch_counts(w.name, $2) c
where w.name = $1 and c.role = 'waiting'
group by w.id, w.since_column

-- Metrics of watches: which ones are looked at, the first $1 by number.
select w.name from watchbell.watches w order by w.id limit $1

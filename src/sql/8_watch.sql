-- One watch.
select w.id, w.name, w.table_name, w.key_columns, w.status_column, w.since_column,
       (extract(epoch from w.poll_interval) * 1000)::bigint as poll_ms, w.version, w.paused_at is not null as paused,
       case when isfinite(w.paused_until)
            then (extract(epoch from w.paused_until - watchbell.instant()) * 1000)::bigint end as paused_ms, w.plan
from watchbell.watches w
where w.id = $1

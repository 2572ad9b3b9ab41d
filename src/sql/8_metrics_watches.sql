-- Metrics of watches: which ones are looked at, the first $1 by number, who owns them, whether they are paused, and how many states
-- they take rows from.
select w.name, coalesce(w.owner, ''), w.paused_at is not null,
       case when jsonb_typeof(w.transitions) = 'array' then jsonb_array_length(w.transitions) else 1 end::bigint
from watchbell.watches w order by w.id limit $1

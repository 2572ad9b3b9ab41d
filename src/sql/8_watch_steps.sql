-- The steps of a watch, in their order. What a transition leaves out is the watch's own.
select coalesce(t.s ->> 'from', w.from_state) as from_state,
       case when t.s ? 'via' then t.s ->> 'via' else w.via_state end as via_state,
       coalesce(t.s ->> 'to', w.to_state) as to_state,
       coalesce(t.s ->> 'error', w.error_state) as error_state,
       coalesce(t.s ->> 'handler', w.handler) as handler,
       (case when t.s ? 'payload' then t.s -> 'payload' else w.payload end)::text as payload,
       (case when t.s ? 'retry' then t.s -> 'retry' else w.retry end)::text as retry,
       coalesce((t.s ->> 'max_attempts')::smallint, w.max_attempts) as max_attempts,
       (extract(epoch from case when t.s ? 'timeout' then (t.s ->> 'timeout')::interval else w.timeout end)
        * 1000)::bigint as timeout_ms,
       case when t.s ? 'order_by' then t.s ->> 'order_by' else w.order_by end as order_by,
       case when t.s ? 'filter' then t.s ->> 'filter' else w.filter end as filter,
       coalesce((t.s ->> 'batch_size')::bigint, w.batch_size) as batch,
       case when t.s ? 'rate_limit' then (t.s ->> 'rate_limit')::bigint else w.rate_limit end as rate_limit,
       (extract(epoch from coalesce((t.s ->> 'rate_period')::interval, w.rate_period)) * 1000)::bigint as rate_ms,
       case when t.s ? 'max_running' then (t.s ->> 'max_running')::bigint else w.max_running end as max_running,
       coalesce(t.s ->> 'mode', w.mode) as mode
from watchbell.watches w
cross join lateral jsonb_array_elements(
    case when w.transitions is null then '[{}]'::jsonb else w.transitions end) with ordinality as t (s, n)
where w.id = $1
order by t.n

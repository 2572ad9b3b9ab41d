-- Finish, in the same transaction: callbacks and notifications of the runs that ended in it.
select count(watchbell.call_back(f))
from watchbell.runs_finished f
where f.id = any ($1::bigint[]) and f.finished_at >= coalesce($2::timestamptz, now())
  and coalesce(f.callback_url, f.notify_channel) is not null

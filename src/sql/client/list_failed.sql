-- What watchbell.retry_failed() would try again: failed, and not tried again yet; the oldest first.
where r.status = 'failed' and r.finished_at >= coalesce($1, now() - interval '1 day')
  and ($2::text is null or r.handler = $2)
  and ($3::text is null or r.queue = $3)
  and ($4::text is null or r.schedule_name = $4)
  and r.trigger <> 'keep_alive' and not watchbell.is_stranded(r.target)
  and not exists (select from watchbell.runs again where again.retry_of = r.id)
order by r.finished_at
limit $5

where ($1::text is null or r.status = $1)
  and ($2::text is null or r.handler = $2)
  and ($3::text is null or r.queue = $3)
  and ($4::text is null or r.schedule_name = $4)
  and ($5::bigint is null or r.id < $5)
order by r.id desc
limit $6

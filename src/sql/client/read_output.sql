-- Rows after those that were read: by attempt, since a late writer's attempt may grow beside a newer one.
select o.attempt, o.seq, o.stream, o.bytes, o.cut_bytes, o.at
from watchbell.run_output o
     left join unnest($2::integer[], $3::integer[]) seen (attempt, seq) on seen.attempt = o.attempt
where o.run_id = $1
  and (seen.seq is null or o.seq > seen.seq)
  and ($4::integer is null or o.attempt = $4)
  and ($5::text is null or o.stream = $5)
order by o.attempt, o.seq
limit $6

-- Output of any number of attempts. $7: said again after an answer that was lost, so look whether it is there.
insert into watchbell.run_output (run_id, attempt, seq, stream, bytes, cut_bytes)
select x.run_id, x.attempt, x.seq, x.stream, x.bytes, x.cut_bytes
from unnest($1::bigint[], $2::integer[], $3::integer[], $4::text[], $5::bytea[], $6::bigint[])
     as x (run_id, attempt, seq, stream, bytes, cut_bytes)
where not $7 or not exists (
    select from watchbell.run_output o where o.run_id = x.run_id and o.attempt = x.attempt and o.seq = x.seq)

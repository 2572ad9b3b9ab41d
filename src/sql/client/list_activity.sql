-- Changes for people, the newest first.
select a.id, a.at, a.actor, a.login, a.application_name, a.what, a.kind, a.name, a.object_id,
    a.before::text as before, a.after::text as after
from watchbell.activity a
where ($1::text is null or a.kind = $1)
  and ($2::text is null or a.name = $2)
  and ($3::text is null or a.actor = $3)
  and ($4::bigint is null or a.id < $4)
order by a.id desc
limit $5

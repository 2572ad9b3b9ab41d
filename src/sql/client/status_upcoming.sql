-- What fires next.
select u.name, u.kind, u.handler, u.queue, u.next_fire_at, u.starts_in
from watchbell.upcoming u
order by u.next_fire_at, u.name
limit $1

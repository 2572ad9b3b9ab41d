-- Testing: when a row of a watch is tried again, and the error of its attempt, which was written since transaction $4.
select (select c.due_at from watchbell.watch_claims c
        where c.watch_id = $1 and c.key = $2::text[] and c.step = $3 and c.claimed_by is null),
       (select e.message from watchbell.watch_errors e
        where e.watch_id = $1 and e.key = $2::text[] and e.step = $3 and e.xmin::text::bigint >= $4
        order by e.at desc limit 1)

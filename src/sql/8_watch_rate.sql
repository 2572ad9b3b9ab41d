-- Takes up to $3 rows from what may start at a rate of $4 in $5 ms: how many, and else how long until the next one.
-- What was not used piles up to a tenth of a second's worth, and one row at least.
update watchbell.watch_rates r
set allowance = a.have - a.granted, at = a.now
from (
    select h.have, h.now, h.per_second, least($3::bigint, floor(h.have))::bigint as granted
    from (
        select p.now, p.per_second,
               least(greatest(1, p.per_second / 10),
                     o.allowance + p.per_second * greatest(0, extract(epoch from p.now - o.at)::double precision)) as have
        from watchbell.watch_rates o
        cross join (select watchbell.instant() as now, $4::bigint * 1000.0::double precision / $5::bigint as per_second) p
        where o.watch_id = $1 and o.step = $2
        for no key update of o
    ) h
) a
where r.watch_id = $1 and r.step = $2
returning a.granted, ceil(greatest(0, 1 - (a.have - a.granted)) / a.per_second * 1000)::bigint

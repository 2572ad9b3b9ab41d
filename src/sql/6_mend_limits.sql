update watchbell.limits l
set running = x.n
from (select k.key, (select count(*)::integer from watchbell.runs_live r
                     where r.concurrency_key = k.key and r.status = 'running')
                  + (select count(*)::integer from watchbell.runs_live r
                     where r.inner_key = k.key and r.status = 'running') as n
      from unnest($1::text[]) as k (key)) x
where l.key = x.key and l.running <> x.n

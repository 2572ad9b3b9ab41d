-- Mend: lock the limits that say something runs, to count again in the next statement.
select l.key from watchbell.limits l where l.running > 0 order by l.key limit 10000 for no key update skip locked

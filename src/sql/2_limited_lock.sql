-- Limited claim, first: whoever holds this row claims for the queue; nobody waits for it.
select l.key from watchbell.limits l where l.key = 'queue:' || $1::text for no key update skip locked

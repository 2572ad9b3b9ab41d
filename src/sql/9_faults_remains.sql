-- Faults, remains: rows of deleted watches that dead workers had go back; with $1 the others are counted.
select watchbell.settle_remains($1)

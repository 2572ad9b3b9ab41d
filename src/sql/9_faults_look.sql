-- Faults, look: finds what is wrong with the rows of a watch, such as rows at `via` that no worker has.
select watchbell.find_watch_faults($1)

-- Leased, faults: looks for what is wrong with the rows of a watch, such as rows at `via` that nobody has.
select watchbell.find_watch_faults($1)

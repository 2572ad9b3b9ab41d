-- The first of the earlier watches that takes just the same rows as this one, and their state.
select r.name, r.state from watchbell.watch_rival($1) r

-- Days: the partitions of one table and about how many rows each has, as the server's statistics say.
select c.relname::text, greatest(c.reltuples, 0)::bigint
from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
where i.inhparent = ('watchbell.' || $1::text)::regclass

-- A watched table in the catalog, as the worker's login sees it.
select c.oid, n.nspname as schema, c.relname as name, c.relkind::text as kind,
       has_table_privilege(c.oid, 'select') as may_select,
       current_user::text as login,
       (select string_agg(distinct format('%I.%I', x.nspname, d.conname), ', ')
        from pg_catalog.pg_constraint d
        join pg_catalog.pg_namespace x on x.oid = d.connamespace
        where d.condeferred) as deferred
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.oid = to_regclass($1::text)

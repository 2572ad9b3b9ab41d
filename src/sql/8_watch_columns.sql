-- The columns of a table: types by their full names, the labels of an enum, the place in the primary key.
select a.attname as name, n.nspname as type_schema, t.typname as type_name,
       format_type(a.atttypid, a.atttypmod) as shown,
       b.typcategory::text as category, b.typname as base,
       a.attnotnull as not_null,
       (select array_agg(e.enumlabel::text order by e.enumsortorder)
        from pg_catalog.pg_enum e where e.enumtypid = b.oid) as labels,
       (select array_position(i.indkey::int2[], a.attnum)
        from pg_catalog.pg_index i where i.indrelid = a.attrelid and i.indisprimary) as place,
       has_column_privilege(a.attrelid, a.attnum, 'update') as may_update
from pg_catalog.pg_attribute a
join pg_catalog.pg_type t on t.oid = a.atttypid
join pg_catalog.pg_namespace n on n.oid = t.typnamespace
join pg_catalog.pg_type b on b.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
order by a.attnum

-- Whether a unique index makes these columns ($2) name one row.
select exists (
    select from pg_catalog.pg_index i
    where i.indrelid = $1 and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
      and (select bool_and(a.attname = any ($2::text[]))
           from generate_series(0, i.indnkeyatts - 1) k
           join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[k]))

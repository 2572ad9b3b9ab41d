-- What a handler printed last about a row, with the error of the attempt that failed.

alter table watchbell.watch_errors add column output bytea;
comment on column watchbell.watch_errors.output is 'The last lines that the attempt printed, in leased mode: UTF-8, up to 4 KiB; NULL if none.';

-- For those who may read the output, and NULL for others: by the rights of the caller.
create function watchbell.watch_output(watch bigint, key text[], at timestamptz, attempt integer) returns text
language plpgsql stable set search_path = watchbell, pg_temp as $$
begin
    if has_column_privilege('watchbell.watch_errors', 'output', 'select') then
        return (select convert_from(e.output, 'UTF8') from watchbell.watch_errors e
                where e.watch_id = watch and e.key = watch_output.key and e.at = watch_output.at
                  and e.attempt = watch_output.attempt and e.output is not null
                limit 1);
    end if;
    return null;
exception when character_not_in_repertoire or untranslatable_character then
    return convert_from((select regexp_replace(encode(e.output, 'escape'), '\\\d{3}', '?', 'g')::bytea
                         from watchbell.watch_errors e
                         where e.watch_id = watch and e.key = watch_output.key and e.at = watch_output.at
                           and e.attempt = watch_output.attempt and e.output is not null
                         limit 1), 'SQL_ASCII');
end $$;
comment on function watchbell.watch_output is 'What an attempt at a row printed last before it failed; NULL for those who may not read the output.';

-- An edit of a watch that changes what names its rows: the key columns, or the table. What is remembered of rows that
-- wait stands under their old keys, which nobody would ever look up again, or take for another row's: it goes. Rows in
-- work have claims under their old keys too: under a new key another worker could start them a second time, and if
-- their worker died, another row could be moved for them. So such an edit waits until no row is in work.

-- By the columns, not by how they are written: naming the primary key is no change.
create function watchbell.watches_rekey() returns trigger
language plpgsql set search_path = watchbell, pg_temp as $$
declare
    in_work bigint;
begin
    if new.table_name = old.table_name
       and watchbell.watch_key(old, watchbell.watched_table(old.table_name))
           = watchbell.watch_key(new, watchbell.watched_table(new.table_name)) then
        return null;
    end if;
    delete from watchbell.watch_claims c where c.watch_id = new.id and c.claimed_by is null;
    select count(*) into in_work
    from (select from watchbell.watch_claims c where c.watch_id = new.id and c.claimed_by is not null limit 10000) c;
    if in_work > 0 then
        raise exception using errcode = '55000', schema = 'watchbell', table = 'watches',
            column = case when new.table_name = old.table_name then 'key_columns' else 'table_name' end,
            message = format('watch "%s": %s in work under the old key; pause it, and change its %s when none is',
                new.name,
                case in_work when 1 then '1 row is' when 10000 then 'at least 10000 rows are' else in_work || ' rows are' end,
                case when new.table_name = old.table_name then 'key' else 'table' end),
            hint = format('SELECT watchbell.pause_watch(%L); then wait until watch_status says in_work = 0.', new.name);
    end if;
    return null;
end $$;
comment on function watchbell.watches_rekey() is 'Forgets what is known of rows that wait when their watch names rows otherwise; refuses that while rows are in work.';

create trigger watches_rekey after update of table_name, key_columns
on watchbell.watches for each row
when (old.key_columns is distinct from new.key_columns or old.table_name is distinct from new.table_name)
execute function watchbell.watches_rekey();

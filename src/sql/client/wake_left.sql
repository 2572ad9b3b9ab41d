-- The trigger of a watch that was deleted ($1 its table, $2 its status column), if it is there and no other watch wants it.
select format('DROP TRIGGER %I ON %s;', t.tgname, $1::text)
from pg_catalog.pg_trigger t
where t.tgrelid = watchbell.watched_table($1) and t.tgname = watchbell.wake_trigger($2)
  and not exists (select from watchbell.watches w
                  where w.status_column = $2 and watchbell.watched_table(w.table_name) = t.tgrelid)

-- The guard of the tests: see guard.rs.
create schema watchbell_guard;

create table watchbell_guard.allowed ("from" text, "to" text, primary key ("from", "to"));
insert into watchbell_guard.allowed values {allowed};

-- Runs that left runs_live, and where from. Runs that ended: the key refuses a second end, also one that
-- another transaction has not committed yet.
create unlogged table watchbell_guard.gone (id bigint not null, status text not null);
create index gone_id on watchbell_guard.gone (id);
create unlogged table watchbell_guard.ended (id bigint primary key);

create function watchbell_guard.is_on() returns boolean language sql stable
return coalesce(current_setting('watchbell_guard.off', true), '') = '';

create function watchbell_guard.refuse(sentence text) returns void language plpgsql as $$
begin
    raise exception using errcode = 'WB001', message = sentence;
end $$;

create function watchbell_guard.born() returns trigger
language plpgsql security definer set search_path = watchbell_guard, pg_temp set enable_hashjoin = on as $$
begin
    if is_on() then
        perform refuse(format('run %s has ended and may not come back', n.id)) from new_rows n join ended e on e.id = n.id;
    end if;
    return null;
end $$;
create trigger guard_born after insert on watchbell.runs_live referencing new table as new_rows
for each statement execute function watchbell_guard.born();

create function watchbell_guard.changed() returns trigger
language plpgsql security definer set search_path = watchbell_guard, pg_temp set enable_hashjoin = on as $$
begin
    if not is_on() then
        return null;
    end if;
    perform refuse(format('run %s may not go from %s to %s', o.id, o.status, n.status))
    from old_rows o join new_rows n on n.id = o.id
    where n.status <> o.status and not exists (select from allowed a where a."from" = o.status and a."to" = n.status);
    perform refuse(format('the fence of run %s may not go from %s to %s while it goes from %s to %s',
                          o.id, o.fence, n.fence, o.status, n.status))
    from old_rows o join new_rows n on n.id = o.id
    where n.fence < o.fence or (n.fence > o.fence) <> (o.status = 'pending' and n.status = 'running');
    return null;
end $$;
create trigger guard_changed after update on watchbell.runs_live
referencing old table as old_rows new table as new_rows
for each statement execute function watchbell_guard.changed();

create function watchbell_guard.left_live() returns trigger
language plpgsql security definer set search_path = watchbell_guard, pg_temp set enable_hashjoin = on as $$
begin
    if is_on() then
        insert into gone (id, status) select o.id, o.status from old_rows o;
    end if;
    return null;
end $$;
create trigger guard_left after delete on watchbell.runs_live referencing old table as old_rows
for each statement execute function watchbell_guard.left_live();

-- At the commit: whoever left has ended.
create function watchbell_guard.left_to_an_end() returns trigger
language plpgsql security definer set search_path = watchbell_guard, pg_temp set enable_hashjoin = on as $$
begin
    if not exists (select from ended e where e.id = new.id) then
        perform refuse(format('run %s was deleted without an end', new.id));
    end if;
    return null;
end $$;
create constraint trigger guard_left_to_an_end after insert on watchbell_guard.gone
deferrable initially deferred for each row execute function watchbell_guard.left_to_an_end();

create function watchbell_guard.finished() returns trigger
language plpgsql security definer set search_path = watchbell_guard, pg_temp set enable_hashjoin = on as $$
begin
    if not is_on() then
        return null;
    end if;
    perform refuse(format('run %s ended and is still live', n.id)) from new_rows n join watchbell.runs_live r on r.id = n.id;
    perform refuse(format('run %s may not go from %s to %s', n.id, g.status, n.status))
    from new_rows n join gone g on g.id = n.id
    where not exists (select from allowed a where a."from" = g.status and a."to" = n.status);
    begin
        insert into ended (id) select n.id from new_rows n;
    exception when unique_violation then
        perform refuse('a run ended twice: ' || sqlerrm);
    end;
    return null;
end $$;
create trigger guard_finished after insert on watchbell.runs_finished referencing new table as new_rows
for each statement execute function watchbell_guard.finished();

create function watchbell_guard.final() returns trigger
language plpgsql security definer set search_path = watchbell_guard, pg_temp set enable_hashjoin = on as $$
begin
    if is_on() then
        perform refuse(format('run %s has ended and may not be changed', o.id)) from old_rows o;
    end if;
    return null;
end $$;
create trigger guard_final after update on watchbell.runs_finished referencing old table as old_rows
for each statement execute function watchbell_guard.final();

grant usage on schema watchbell_guard to public;

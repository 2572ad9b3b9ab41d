-- A table that takes a move without a word and leaves the row where it stood, as a BEFORE UPDATE trigger can: the
-- statement that moved it is to fail like one that the table refuses, or the row would be taken again and again.

create function watchbell.stays(state text) returns boolean language plpgsql set search_path = watchbell, pg_temp as $$
begin
    raise exception using errcode = '23514', schema = 'watchbell', table = 'watches', column = 'table_name',
        message = format('its table left it at "%s"', state),
        hint = 'A BEFORE UPDATE trigger of the table returns NULL or puts the status back; or a rule does.';
end $$;
comment on function watchbell.stays is 'Refuses a move of rows of which some still stand where they stood.';

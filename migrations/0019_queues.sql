-- Limits of queues: how many runs at once, strict order, starts per period, how many may wait. People set them
-- on `queues`; the engine keeps its counters in `limits` under the key 'queue:<name>', so that an open edit of
-- a queue never holds up a claim or an end.

alter table watchbell.queues
    add column max_running integer,
    add column fifo        boolean not null default false,
    add column rate_limit  integer,
    add column rate_period interval not null default '1 s',
    add column max_pending integer,
    add column limited     boolean generated always as (max_running is not null or fifo or rate_limit is not null) stored,
    add column limit_epoch bigint not null default 0,
    add constraint queues_max_running check (max_running between 1 and 1000000),
    add constraint queues_rate_limit check (rate_limit between 1 and 1000000),
    add constraint queues_max_pending check (max_pending between 1 and 1000000);

-- full_at: when a rate's bucket will be full again; holder: the run at the head of a strict queue;
-- epoch: up to which change of the queue all its older runs are counted here.
alter table watchbell.limits
    add column full_at timestamptz,
    add column holder  bigint,
    add column epoch   bigint not null default 0;

-- A run of a limited queue has the key of its queue; its own key, if any, moves to inner_key.
alter table watchbell.runs_live add column inner_key text collate "C";

create index runs_live_order on watchbell.runs_live (concurrency_key, id) where concurrency_key like 'queue:%';
create index runs_live_own_key on watchbell.runs_live (queue) where concurrency_key not like 'queue:%';
create index runs_live_inner_key on watchbell.runs_live (inner_key) where inner_key is not null;

create function watchbell.queues_check() returns trigger
language plpgsql security definer set search_path = watchbell, pg_temp as $$
declare
    refusal watchbell.refusal;
begin
    new.fifo := coalesce(new.fifo, false);
    new.rate_period := coalesce(new.rate_period, '1 s');
    if new.name is null or new.name !~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' or length(new.name) > 128 then
        refusal := watchbell.refused('name', format('queue "%s" is not a valid name', watchbell.shown(new.name)),
            'A name has 1 to 128 letters, digits and . _ : - and begins with a letter or digit.', '22023');
    else
        select v."column", format('queue "%s": %s', new.name, v.problem), v.hint, '23514' into refusal from (values
            ('max_running', watchbell.range_problem('max_running', new.max_running, 1, 1000000),
                'NULL means as many as workers have slots.'),
            ('max_running', case when new.fifo and new.max_running > 1
                then format('max_running %s contradicts fifo, which runs one at a time', new.max_running) end,
                'Leave max_running NULL.'),
            ('rate_limit', watchbell.range_problem('rate_limit', new.rate_limit, 1, 1000000),
                'How many may start per rate_period; NULL means any number.'),
            ('rate_period', watchbell.interval_problem('rate_period', new.rate_period, '1 ms'), 'The default is 1 s.'),
            ('max_pending', watchbell.range_problem('max_pending', new.max_pending, 1, 1000000),
                'NULL means that any number may wait.'),
            ('max_pending', case when new.name = 'default' and new.max_pending is not null
                then 'max_pending cannot be set for the queue that is used when none is named' end,
                'Insert such runs into a queue with a name of its own.')
        ) v ("column", problem, hint) where v.problem is not null limit 1;
    end if;
    if refusal is not null then
        raise exception using message = refusal.sentence, hint = refusal.hint, errcode = refusal.code,
            schema = 'watchbell', table = 'queues', column = refusal."column";
    end if;
    -- Runs that were claimed before this are counted anew before another is started under the limit.
    new.limit_epoch := case
        when tg_op = 'INSERT' then 1
        when (new.max_running is not null or new.fifo or new.rate_limit is not null)
             and not (old.max_running is not null or old.fifo or old.rate_limit is not null) then old.limit_epoch + 1
        else old.limit_epoch end;
    return new;
end $$;

create trigger queues_check before insert or update of name, max_running, fifo, rate_limit, rate_period, max_pending, limit_epoch
on watchbell.queues for each row execute function watchbell.queues_check();

-- A removed or raised limit is news to workers that sleep.
create trigger queues_wake after update of max_running, fifo, rate_limit, rate_period
on watchbell.queues for each statement execute function watchbell.wake();

-- True when so many more runs may wait in the queue; otherwise an error, SQLSTATE 53400. Reads at most
-- max_pending entries. Inserts at the same moment do not see one another: each may be one too many.
create function watchbell.admit(queue text, more bigint) returns boolean
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    most integer;
begin
    select q.max_pending into most from watchbell.queues q where q.name = admit.queue;
    if most is null then
        return true;
    end if;
    if more > most or exists (
        select from (
            select r.status from watchbell.runs_live r where r.queue = admit.queue and r.concurrency_key is null
            union all
            select r.status from watchbell.runs_live r where r.concurrency_key = 'queue:' || admit.queue
            union all
            select r.status from watchbell.runs_live r
            where r.queue = admit.queue and r.concurrency_key not like 'queue:%') r
        where r.status = 'pending' offset greatest(most - more, 0) limit 1) then
        raise exception using errcode = '53400', schema = 'watchbell', table = 'runs', column = 'queue',
            message = format('queue "%s" is full: its limit is %s waiting runs', admit.queue, most),
            hint = 'Try again when some of them have run, or raise max_pending in watchbell.queues.';
    end if;
    return true;
end $$;

-- The prefix of the queues' keys is not for people's own.
create or replace function watchbell.key_problem("column" text, value text) returns text
language sql immutable set search_path = watchbell, pg_temp
return case
    when value = '' then format('%s is empty', "column")
    when "column" = 'concurrency_key' and value like 'queue:%'
        then 'concurrency_key begins with "queue:", which is for the limits of queues'
    else watchbell.length_problem("column", value, 256)
end;

comment on column watchbell.queues.max_running is 'How many of its runs may run at once, on all workers together; NULL is any number.';
comment on column watchbell.queues.fifo is 'Strict order: one run at a time, in the order of insertion, also across retries. Priority does not count.';
comment on column watchbell.queues.rate_limit is 'How many of its runs may start per rate_period, on all workers together; NULL is any number.';
comment on column watchbell.queues.rate_period is 'The period of rate_limit, 1 s unless given.';
comment on column watchbell.queues.max_pending is 'An insert is refused (SQLSTATE 53400) while so many of its runs wait; NULL is any number.';
comment on column watchbell.queues.limited is 'Whether max_running, fifo or rate_limit is set. Written by the system.';
comment on column watchbell.queues.limit_epoch is 'Rises when the queue becomes limited. Written by the system.';
comment on column watchbell.limits.full_at is 'For a queue with a rate: when all its starts of a period are free again. Written by the system.';
comment on column watchbell.limits.holder is 'For a queue in strict order: the run that was started last. Written by the system.';
comment on column watchbell.limits.epoch is 'For a queue: the limit_epoch up to which its runs are counted. Written by the system.';
comment on column watchbell.runs_live.inner_key is 'In a limited queue: the run''s own concurrency_key, while concurrency_key is that of its queue.';
comment on function watchbell.admit(text, bigint) is 'True when so many more runs may wait in a queue; otherwise an error, SQLSTATE 53400.';

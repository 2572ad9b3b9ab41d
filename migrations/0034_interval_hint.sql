-- A schedule's row that is refused for its fixed_delay or fixed_rate: the hint says what may stand there, for whoever
-- wrote too little as for whoever wrote months. Else as in 0024.

create or replace function watchbell.schedule_refusal(s watchbell.schedules) returns watchbell.refusal
language plpgsql stable set search_path = watchbell, pg_temp as $$
declare
    subject constant text := format('schedule "%s"', watchbell.shown(s.name));
    specs text;
    refusal watchbell.refusal;
begin
    if s.name is null then
        return watchbell.refused('name', 'schedule has no name',
            'A name has 1 to 128 letters, digits and . _ : - and begins with a letter or digit.', '22023');
    elsif s.name !~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' or length(s.name) > 128 then
        return watchbell.refused('name', subject || ': this is not a valid name',
            'A name has 1 to 128 letters, digits and . _ : - and begins with a letter or digit.', '22023');
    elsif num_nonnulls(s.cron, s.fixed_delay, s.fixed_rate, s.run_at) <> 1 then
        select string_agg(name, ' + ') into specs
        from (values ('cron', s.cron), ('fixed_delay', s.fixed_delay::text), ('fixed_rate', s.fixed_rate::text),
                     ('run_at', s.run_at::text)) v (name, value)
        where value is not null;
        return watchbell.refused('cron',
            format('%s must set exactly one of cron, fixed_delay, fixed_rate, run_at (got %s)',
                   subject, coalesce(specs, 'none')),
            'Example: INSERT INTO watchbell.schedules (name, cron, handler) '
            'VALUES (''nightly'', ''0 2 * * *'', ''report'');');
    end if;

    if s.cron is not null then
        select 'cron', format('invalid cron expression "%s": %s', watchbell.shown(s.cron), c.problem), c.hint, '22023'
        into refusal from watchbell.cron_problem(s.cron) c where c.problem is not null;
        if found then
            return refusal;
        end if;
    end if;
    if not watchbell.is_timezone(s.timezone) then
        return watchbell.refused('timezone',
            format('unknown timezone "%s" for %s', watchbell.shown(s.timezone), subject),
            watchbell.timezone_hint(s.timezone), '22023');
    end if;

    refusal := watchbell.work_refusal(s.handler, s.payload, s.queue, s.priority, s.max_attempts, s.retry,
        s.timeout, s.concurrency_key, case when s.target !~ '^\s*all\s*(:|$)' then s.target end, s.tags);
    if refusal is not null then
        refusal.sentence := subject || ': ' || refusal.sentence;
        return refusal;
    end if;

    select v."column", subject || ': ' || v.problem, v.hint, '23514' into refusal from (values
        ('fixed_delay', watchbell.interval_problem('fixed_delay', s.fixed_delay, '1 s'),
            'From 1 s to 36525 days. For months use cron, such as 0 0 1 * *.'),
        ('fixed_rate', watchbell.interval_problem('fixed_rate', s.fixed_rate, '1 s'),
            'From 1 s to 36525 days. For months use cron, such as 0 0 1 * *.'),
        ('run_at', watchbell.time_problem('run_at', s.run_at), 'Example: now() + ''1 hour''.'),
        ('dst', watchbell.choice_problem('dst', s.dst, '{once,literal}'),
            'At a clock change once runs each time once, literal as often as the clock shows it.'),
        ('overlap', watchbell.choice_problem('overlap', s.overlap, '{allow,skip,queue_one,queue_all,cancel_running}'),
            'What a fire time does while a run of this schedule is open.'),
        ('target', case when s.target ~ '^\s*all\s*(:|$)' and watchbell.fleet(s.target) is null
            then format('target "%s" is not all or all:label=value', watchbell.shown(s.target)) end,
            'all is each live worker with the handler, all:zone=a those of them with the label.'),
        ('target', case when s.keep_alive and watchbell.fleet(s.target) is not null
            then format('keep_alive does not go with target "%s"', watchbell.shown(s.target)) end,
            'Keep one schedule alive on each host: target host=a, host=b and so on.'),
        ('keep_alive', case when s.keep_alive and s.fixed_delay is null
            then 'keep_alive goes with fixed_delay only' end,
            'fixed_delay is the first pause before a restart: fixed_delay => ''1 s'', keep_alive => true.'),
        ('copies', watchbell.range_problem('copies', s.copies, 1, 100), 'The default is 1.'),
        ('copies', case when s.copies > 1 and not s.keep_alive
            then format('copies %s goes with keep_alive only', s.copies) end,
            'For several runs of one fire time use target all, or several schedules.'),
        ('max_running', watchbell.range_problem('max_running', s.max_running, 1, 100), 'The default is 1.'),
        ('misfire', watchbell.choice_problem('misfire', s.misfire, '{fire_once,skip,catch_up}'),
            'What becomes of fire times that passed while nobody could act.'),
        ('misfire_grace', watchbell.interval_problem('misfire_grace', s.misfire_grace, '0'),
            'How late misfire = skip may still act.'),
        ('catch_up_window', watchbell.interval_problem('catch_up_window', s.catch_up_window, '0'),
            'How far back misfire = catch_up reaches.'),
        ('catch_up_limit', watchbell.range_problem('catch_up_limit', s.catch_up_limit, 1, 1000),
            'The default is 100.'),
        ('start_deadline', watchbell.interval_problem('start_deadline', s.start_deadline, '1 ms'),
            'NULL means that a run may start however late.'),
        ('jitter', watchbell.interval_problem('jitter', s.jitter, '0'), 'The default is 0: no jitter.'),
        ('pause_after_failures', watchbell.range_problem('pause_after_failures', s.pause_after_failures, 1),
            'NULL means never.'),
        ('first_fire', watchbell.choice_problem('first_fire', s.first_fire, '{after_period,at_once}'),
            'When a new fixed_delay or fixed_rate acts first.'),
        ('starts_at', watchbell.time_problem('starts_at', s.starts_at), 'NULL means at once.'),
        ('ends_at', watchbell.time_problem('ends_at', s.ends_at), 'NULL means never.'),
        ('ends_at', case when s.ends_at <= s.starts_at
            then format('ends_at %s is not after starts_at %s', s.ends_at, s.starts_at) end, 'NULL means never.'),
        ('max_fires', watchbell.range_problem('max_fires', s.max_fires, 1), 'NULL means no limit.'),
        ('description', watchbell.length_problem('description', s.description, 8192),
            'Put longer text behind runbook_url.'),
        ('owner', watchbell.length_problem('owner', s.owner, 256), 'A person, team or address.'),
        ('runbook_url', watchbell.length_problem('runbook_url', s.runbook_url, 2048), 'An address.'),
        ('managed_by', watchbell.length_problem('managed_by', s.managed_by, 256),
            'What writes this row, such as a file or a program.')
    ) v ("column", problem, hint) where v.problem is not null limit 1;
    return refusal;
end $$;

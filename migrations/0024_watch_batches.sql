-- Watches: a worker may have several open batches of a step, and rows may start at a rate.

alter table watchbell.worker_batches add column lane smallint not null default 0;
alter table watchbell.worker_batches drop constraint worker_batches_pkey;
alter table watchbell.worker_batches add primary key (worker_id, watch_id, step, lane);
comment on column watchbell.worker_batches.lane is 'Which of the batches that a worker has open at once.';

-- One row a step with a rate: whoever starts rows takes them from here first, so the rate is that of all workers.
create table watchbell.watch_rates (
    watch_id  bigint not null,
    step      text collate "C" not null,
    allowance double precision not null,
    at        timestamptz not null,
    primary key (watch_id, step)
) with (fillfactor = 50);

comment on table watchbell.watch_rates is 'How many rows of a step with a rate_limit may start at once.';
comment on column watchbell.watch_rates.watch_id is 'The watch.';
comment on column watchbell.watch_rates.step is 'The state the rows are taken from.';
comment on column watchbell.watch_rates.allowance is 'Rows that could start at that moment; grows with time.';
comment on column watchbell.watch_rates.at is 'The moment of the last start.';

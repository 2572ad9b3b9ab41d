-- Cluster metrics: one worker reads them for all, and all show what it found. Not in the write-ahead log: it is
-- written every 15 seconds, and after a crash it is read anew.
create unlogged table watchbell.cluster_metrics (
    only_one    boolean primary key default true check (only_one),
    read_at     timestamptz not null,
    read_values jsonb not null
) with (fillfactor = 50);

comment on table watchbell.cluster_metrics is 'The values of the whole database that every worker shows in its metrics; one row, written every 15 s while somebody measures.';
comment on column watchbell.cluster_metrics.only_one is 'Keeps it at one row.';
comment on column watchbell.cluster_metrics.read_at is 'When they were read.';
comment on column watchbell.cluster_metrics.read_values is 'What was read; its form may differ between versions.';

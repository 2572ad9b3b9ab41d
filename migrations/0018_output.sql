-- Output that is longer than a worker keeps: how much of it was cut out, and where.

alter table watchbell.run_output add column cut_bytes bigint;
comment on column watchbell.run_output.cut_bytes is
    'How many bytes of the attempt were left out at this place; bytes is then the remark that says so.';

-- A run that took its worker down twice runs alone. When it takes this one down too, what the worker had claimed beside
-- it and not begun yet is not to be charged with that.
alter table watchbell.workers add column alone bigint;
comment on column watchbell.workers.alone is 'What it executes alone, since that took two workers down: a run, or a claim of a watched row as a negative number.';

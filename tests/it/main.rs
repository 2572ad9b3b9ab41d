//! What watchbell promises, one module for each group of promises, run against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect is to panic")]
#![expect(unreachable_pub, reason = "in a binary nothing is reachable from outside")]

mod support;
mod table;

mod activity;
mod backfill;
mod claim;
mod cli;
mod client;
mod client_steers;
mod containers;
mod cron;
mod cron_command;
mod cron_oracle;
mod cron_properties;
mod databases;
mod days;
mod demo;
mod docs;
mod drain;
mod edits;
mod embedded;
mod ends;
mod faults;
mod finish;
mod fire;
mod fire_policies;
mod grammar;
mod guarding;
mod handlers;
mod library_around;
mod library_blocking;
mod library_options;
mod library_plugins;
mod library_schedules;
mod library_shutdown;
mod library_state;
mod limits;
mod migrate;
mod planning;
mod planning_properties;
mod prune;
mod races;
mod rescue;
mod roles;
mod rows;
mod runs_view;
mod silence;
mod sql_functions;
mod sql_handler;
mod sql_views;
mod statements;
mod tidy;
mod times;
mod transactional;
mod up;
mod wake;
mod wake_up;
mod words;
mod worker;

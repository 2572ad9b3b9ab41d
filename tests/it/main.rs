//! What watchbell promises, one module for each group of promises, run against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect is to panic")]
#![expect(unreachable_pub, reason = "in a binary nothing is reachable from outside")]

mod support;
mod table;

mod callbacks;
mod claim;
mod cli;
mod client;
mod containers;
mod cron;
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
mod limits;
mod migrate;
mod planning;
mod planning_properties;
mod prune;
mod queues;
mod races;
mod rescue;
mod rows;
mod runs_view;
mod silence;
mod sql_handler;
mod statements;
mod tidy;
mod times;
mod transactional;
mod up;
mod wake;
mod wake_up;
mod worker;

//! What watchbell promises, one module for each group of promises, run against a real PostgreSQL.

#![expect(unreachable_pub, reason = "in a binary nothing is reachable from outside")]

mod support;
mod table;

mod client;
mod containers;
mod cron;
mod cron_properties;
mod databases;
mod days;
mod edits;
mod embedded;
mod ends;
mod grammar;
mod migrate;
mod planning;
mod planning_properties;
mod rows;
mod runs_view;
mod wake;

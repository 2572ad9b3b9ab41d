//! What watchbell promises, one module for each group of promises, run against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in what it calls too")]
#![expect(unreachable_pub, reason = "in a binary nothing is reachable from outside")]

mod sql_handler;
mod support;
mod table;

mod cli;
mod client;
mod containers;
mod cron;
mod cron_properties;
mod databases;
mod docs;
mod drain;
mod embedded;
mod guarding;
mod handlers;
mod lost;
mod planning;
mod planning_properties;
mod tidy;
mod worker;

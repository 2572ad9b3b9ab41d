//! What watchbell promises, one module for each group of promises, run against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in what it calls too")]
#![expect(unreachable_pub, reason = "in a binary nothing is reachable from outside")]

mod support;
mod table;

mod client;
mod containers;
mod cron;
mod cron_properties;
mod databases;
mod drain;
mod embedded;
mod faults;
mod handlers;
mod planning;
mod planning_properties;
mod times;
mod wake_up;
mod worker;

//! What watchbell promises, one module for each group of promises, run against a real PostgreSQL.

#![expect(unreachable_pub, reason = "in a binary nothing is reachable from outside")]

mod support;

mod client;
mod containers;
mod cron;
mod cron_properties;
mod databases;
mod embedded;
mod guarding;
mod planning;
mod planning_properties;
mod table;

//! What watchbell promises, one module for each group of promises, run against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in what it calls too")]
#![expect(unreachable_pub, reason = "in a binary nothing is reachable from outside")]

mod prune;
mod races;
mod rescue;
mod statements;
mod support;
mod table;
mod transactional;

mod claim;
mod client;
mod containers;
mod cron;
mod cron_properties;
mod databases;
mod embedded;
mod finish;
mod fire;
mod guarding;
mod limits;
mod planning;
mod planning_properties;

//! What watchbell promises, one module for each group of promises, run against a real PostgreSQL.

#![expect(unreachable_pub, reason = "in a binary nothing is reachable from outside")]

mod support;

mod cli;
mod client;
mod containers;
mod databases;
mod embedded;

//! What tests stand on: a database each, servers to break, and a way to say that a test cannot run here.
//!
//! Environment variables:
//! - `WATCHBELL_TEST_DATABASE_URL`: use this server (its login needs CREATEDB) instead of a private one.
//! - `WATCHBELL_TEST_NO_SKIP=1`: a test that cannot run fails instead of being skipped.
//! - `WATCHBELL_TEST_NO_CONTAINERS=1`: tests of containers may be skipped all the same.
//! - `WATCHBELL_TEST_SERVER=private|container|download`: where the shared server comes from, to try each.
//! - `WATCHBELL_TEST_KILLS=20`: how many workers the test of takeover kills, 3 by default; prints a table.
//! - `WATCHBELL_TEST_LOG=watchbell=debug`: what workers in the tests' own process log.

use std::io::Write;

pub mod ask;
pub mod commands;
pub mod crew;
pub mod database;
pub mod docker;
mod drops;
pub mod fleet;
pub mod frozen;
pub mod guard;
pub mod journal;
pub mod log;
pub mod pages;
pub mod private;
pub mod process;
pub mod public;
mod row_handlers;
pub mod scene;
mod shared;
pub mod wait;
pub mod watched;
pub mod wire;

pub use database::Database;
pub use private::private_server;
pub use scene::Scene;

/// Says why a test cannot run on this machine; the caller returns then.
///
/// Panics where nothing may be skipped.
pub fn skip(reason: &str) {
    assert!(!is_set("WATCHBELL_TEST_NO_SKIP"), "this test may not be skipped here: {reason}");
    say_skipped(reason);
}

/// The same for a test that needs a container engine.
pub fn skip_container(reason: &str) {
    if is_set("WATCHBELL_TEST_NO_CONTAINERS") {
        say_skipped(reason);
    } else {
        skip(reason);
    }
}

fn say_skipped(reason: &str) {
    let thread = std::thread::current();
    // Written past the capture of the test harness: a skipped test counts as passed and must be seen.
    let _ = writeln!(std::io::stderr(), "skipped: {}: {reason}", thread.name().unwrap_or("a test"));
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value == "1")
}

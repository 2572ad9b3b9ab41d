//! THE PATH of a row, one stage a file.
//!
//! ```text
//!  INSERT schedule ──► fire ──► INSERT run ◄── INSERT INTO watchbell.runs
//!                       ▲           │ pending
//!                       │         claim          FOR NO KEY UPDATE SKIP LOCKED, fence + 1
//!                       │           │ running
//!                       │        execute         the handler, in this process
//!                       │           │
//!   next fire time ─────┴──────── finish ──► normal | failed | cancelled     (history, one partition a day)
//!   (fixed_delay)                   └──────► pending                         (retry, snooze, give back)
//!
//!  renew     one statement a second keeps the lease of a worker, and so of all its runs
//!  rescue    runs whose worker is dead go through finish as `WorkerLost`
//!  backfill  runs for fire times of the past, on request; they go in like fired ones
//!  prune     days of history are made ahead and dropped when they are old; small things are mended
//!  measure   what metrics say of the whole database is read by one worker for all
//! ```
//!
//! A stage is its SQL (`src/sql`) plus a few lines of Rust. One stage never calls another, except that
//! rescue hands what it found to finish: the worker sequences them. Every stage takes `now`: `None` in
//! production, where the database's clock decides; set by tests.
//!
//! Lock order everywhere: schedule (by id), limit (by key), run (by id); whatever waits on a row that a
//! person may hold uses SKIP LOCKED and comes back later.

pub mod backfill;
pub mod claim;
pub mod execute;
pub mod finish;
pub mod fire;
pub mod leased;
pub mod limited;
pub mod measure;
pub mod prune;
pub mod register;
pub mod renew;
pub mod requests;
pub mod rescue;
pub mod transact;
pub mod watch_crashed;
pub mod watch_failed;
mod watch_moved;
pub mod watch_plan;
pub mod watch_rate;

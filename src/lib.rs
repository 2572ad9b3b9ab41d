//! A job system on one PostgreSQL: insert a row, and replicated workers run it on time, once, and to the end.

pub mod duration;
pub mod error;
pub mod retry;
pub mod run;
pub mod schedule;

pub mod db;
pub mod migrate;

pub mod client;
pub mod handler;
#[doc(hidden)]
pub mod lifecycle;
pub mod worker;

#[cfg(feature = "embedded")]
pub mod embedded;

#[cfg(feature = "bin")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "bin")]
mod telemetry;

pub use error::{Error, Result};
pub use handler::{
    Context, Handler, HandlerError, HandlerResult, Outcome, Registry, StopReason, Tx, fatal, retry_after, snooze,
};
pub use run::{RunId, Status};
pub use worker::Worker;

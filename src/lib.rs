//! A job system on one PostgreSQL: insert a row, and replicated workers run it on time, once, and to the end.

pub mod duration;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
pub mod migrate;
pub mod retry;
pub mod schedule;

pub use error::{Error, Result};

//! A job system on one PostgreSQL: insert a row, and replicated workers run it on time, once, and to the end.

#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
pub mod migrate;

pub use error::{Error, Result};

//! A job system on one PostgreSQL: insert a row, and replicated workers run it on time, once, and to the end.

pub mod db;
pub mod error;

pub use error::{Error, Result};

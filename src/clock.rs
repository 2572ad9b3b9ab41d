//! The one place that reads this machine's clock.
//!
//! Due-ness, leases and finish times come from the database; elapsed time is `tokio::time::Instant`. What is
//! left is what a person asks without a database, "when does this fire next?", and how far the two clocks differ.

use chrono::{DateTime, Utc};

/// This machine's idea of now, for answers to people. Never for a decision about a row.
#[expect(clippy::disallowed_methods, reason = "the one place; see the module")]
pub(crate) fn wall() -> DateTime<Utc> {
    Utc::now()
}

//! The limits of a queue.

use std::time::Duration;

use sqlx::{PgExecutor, Row};

use super::new_run::interval;
use super::{Change, check};
use crate::db::Named;
use crate::error::{Error, Result};

/// A queue with its limits, which hold for all workers together.
///
/// What is not said is not limited. A queue without limits need not be declared: it appears with its first run.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::Queue;
/// use watchbell::minutes;
///
/// Queue::new("mail").max_running(5).rate(100, minutes(1)).upsert(&pool).await?;
/// Queue::new("ledger").fifo().max_pending(10_000).upsert(&pool).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    name: String,
    max_running: Option<i32>,
    fifo: bool,
    rate: Option<(i32, Duration)>,
    max_pending: Option<i32>,
}

impl Queue {
    /// A queue of this name without limits: 1 to 128 letters, digits and `. _ : -`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), max_running: None, fifo: false, rate: None, max_pending: None }
    }

    /// So many of its runs run at once; 1 to 1,000,000.
    #[must_use]
    pub fn max_running(self, runs: i32) -> Self {
        Self { max_running: Some(runs), ..self }
    }

    /// One run at a time, in the order of insertion, also across retries; priority does not count.
    #[must_use]
    pub fn fifo(self) -> Self {
        Self { fifo: true, ..self }
    }

    /// So many of its runs start per period: 1 to 1,000,000, of at least 1 ms.
    #[must_use]
    pub fn rate(self, starts: i32, period: Duration) -> Self {
        Self { rate: Some((starts, period)), ..self }
    }

    /// While so many of its runs wait, an insert is refused with [`Error::Full`]; 1 to 1,000,000.
    #[must_use]
    pub fn max_pending(self, runs: i32) -> Self {
        Self { max_pending: Some(runs), ..self }
    }

    /// Makes the queue, or gives the one of this name these limits and no others; a pause stays.
    ///
    /// A change holds as soon as it is committed; runs that run already go on and count. Needs INSERT and UPDATE on
    /// `watchbell.queues`, which the owner and the role `watchbell_worker` have.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the limit at fault; otherwise what the database answers.
    pub async fn upsert(&self, executor: impl PgExecutor<'_>) -> Result<Change> {
        if let Some((_, period)) = self.rate {
            check::interval("rate_period", period, Duration::from_millis(1))
                .map_err(|problem| Error::invalid(format!("queue \"{}\"", check::shown(&self.name)), problem))?;
        }
        let row = sqlx::query(include_str!("../sql/client/upsert_queue.sql"))
            .bind(&self.name)
            .bind(self.max_running)
            .bind(self.fifo)
            .bind(self.rate.map(|(starts, _)| starts))
            .bind(self.rate.map(|(_, period)| interval(period)))
            .bind(self.max_pending)
            .fetch_optional(executor)
            .await
            .named()?;
        let inserted: Option<bool> = row.map(|row| row.try_get(0)).transpose().named()?;
        Ok(match inserted {
            Some(true) => Change::Inserted,
            Some(false) => Change::Updated,
            None => Change::Unchanged,
        })
    }
}

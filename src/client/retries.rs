//! Trying again what has ended: always a new run, which names the old one.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use super::answer::answer;
use crate::error::Result;
use crate::run::RunId;

/// Makes a new run like one that has ended, from its first attempt on.
///
/// While a retry of it is open, that one is answered: a second click makes no second run.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); [`Error::Conflict`](crate::Error::Conflict) if it has not ended, or
/// another open run has its unique key.
pub async fn retry(executor: impl PgExecutor<'_>, id: RunId) -> Result<RunId> {
    let call = sqlx::query_scalar("select watchbell.retry($1)").bind(id);
    answer("run", &id.to_string(), call.fetch_one(executor).await)
}

/// Runs that have failed, to be tried again: all that match every filter given.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::Failed;
///
/// let runs = Failed::new().handler("mail").max(100).retry(&pool).await?;
/// println!("{runs} mails are sent again");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Failed {
    handler: Option<String>,
    queue: Option<String>,
    schedule: Option<String>,
    since: Option<DateTime<Utc>>,
    max: Option<u32>,
}

impl Failed {
    /// What failed within the last day, the oldest 1,000.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only of this handler.
    #[must_use]
    pub fn handler(self, name: impl Into<String>) -> Self {
        Self { handler: Some(name.into()), ..self }
    }

    /// Only of this queue.
    #[must_use]
    pub fn queue(self, name: impl Into<String>) -> Self {
        Self { queue: Some(name.into()), ..self }
    }

    /// Only of this schedule.
    #[must_use]
    pub fn schedule(self, name: impl Into<String>) -> Self {
        Self { schedule: Some(name.into()), ..self }
    }

    /// Only what ended at or after this time.
    #[must_use]
    pub fn since(self, time: DateTime<Utc>) -> Self {
        Self { since: Some(time), ..self }
    }

    /// How many at most, 1 to 10,000.
    #[must_use]
    pub fn max(self, runs: u32) -> Self {
        Self { max: Some(runs), ..self }
    }

    /// Makes a new run for each that was not tried again yet; answers how many.
    ///
    /// One whose unique key another open run has is left out.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) for an unknown schedule; [`Error::Invalid`](crate::Error::Invalid)
    /// for a limit out of range.
    pub async fn retry(&self, executor: impl PgExecutor<'_>) -> Result<u32> {
        let call = sqlx::query_scalar(
            "select watchbell.retry_failed($1, coalesce($2, now() - interval '1 day'), coalesce($3, 1000), $4, $5)",
        );
        let call = call
            .bind(self.handler.as_deref())
            .bind(self.since)
            .bind(self.max.map(|max| i32::try_from(max).unwrap_or(i32::MAX)))
            .bind(self.queue.as_deref())
            .bind(self.schedule.as_deref());
        let name = self.schedule.as_deref().unwrap_or_default();
        answer("schedule", name, call.fetch_one(executor).await).map(i32::unsigned_abs)
    }
}

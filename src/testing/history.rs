//! What happened so far: errors, output, fire times, schedules.

use chrono::{DateTime, Utc};

use super::Engine;
use crate::client::{self, RunRow, ScheduleRow, Schedules};
use crate::db::Named;
use crate::run::RunId;
use crate::{Error, Result};

/// Why one attempt did not end well.
///
/// ```no_run
/// # async fn example(engine: &watchbell::testing::Engine, id: watchbell::RunId) -> watchbell::Result<()> {
/// let kinds: Vec<String> = engine.errors(id).await?.into_iter().map(|error| error.kind).collect();
/// assert_eq!(kinds, ["timeout", "panic"]); // of the first attempt and the second
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptError {
    /// The number of the attempt, from 1.
    pub attempt: i32,
    /// `error`, `fatal`, `panic`, `timeout` and the like.
    pub kind: String,
    /// What the handler said.
    pub message: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// What became of one fire time of a schedule.
///
/// ```no_run
/// # async fn example(engine: &watchbell::testing::Engine) -> watchbell::Result<()> {
/// for fire in engine.fires("nightly").await? {
///     println!("{}: {}", fire.fire_at, fire.disposition);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fire {
    /// The instant at which the schedule was meant to act.
    pub fire_at: DateTime<Utc>,
    /// `run`, or the reason why it was skipped.
    pub disposition: String,
    /// The run that was made.
    pub run_id: Option<i64>,
    /// How many fire times this row stands for beyond the first, if it is a gap.
    pub missed: i64,
}

impl Engine {
    /// One run as it is now.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown id.
    pub async fn row(&self, id: RunId) -> Result<RunRow> {
        client::run(&self.pool, id).await
    }

    /// Why attempts of this run did not end well, in order.
    pub async fn errors(&self, id: RunId) -> Result<Vec<AttemptError>> {
        let query =
            "select attempt, kind, message, at from watchbell.run_errors where run_id = $1 order by at, attempt";
        let rows: Vec<(i32, String, String, DateTime<Utc>)> =
            sqlx::query_as(query).bind(id.0).fetch_all(&self.pool).await.named()?;
        let error = |(attempt, kind, message, at)| AttemptError { attempt, kind, message, at };
        Ok(rows.into_iter().map(error).collect())
    }

    /// What the attempts of this run logged, line by line.
    pub async fn output(&self, id: RunId) -> Result<Vec<String>> {
        let query = "select bytes from watchbell.run_output where run_id = $1 order by attempt, seq";
        let chunks: Vec<Vec<u8>> = sqlx::query_scalar(query).bind(id.0).fetch_all(&self.pool).await.named()?;
        Ok(String::from_utf8_lossy(&chunks.concat()).lines().map(str::to_owned).collect())
    }

    /// The schedule of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn schedule(&self, name: &str) -> Result<ScheduleRow> {
        let found = Schedules::new().name(name).fetch(&self.pool).await?.pop();
        found.ok_or_else(|| Error::NotFound { kind: "schedule", name: name.to_owned(), hint: String::new() })
    }

    /// The fire times of the schedule of this name, in order, skipped ones too.
    pub async fn fires(&self, name: &str) -> Result<Vec<Fire>> {
        let query = "select f.fire_at, f.disposition, f.run_id, f.missed from watchbell.fires f \
                     join watchbell.schedules s on s.id = f.schedule_id where s.name = $1 order by f.fire_at";
        let rows: Vec<(DateTime<Utc>, String, Option<i64>, i64)> =
            sqlx::query_as(query).bind(name).fetch_all(&self.pool).await.named()?;
        let fire = |(fire_at, disposition, run_id, missed)| Fire { fire_at, disposition, run_id, missed };
        Ok(rows.into_iter().map(fire).collect())
    }
}

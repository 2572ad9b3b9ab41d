//! What became of one attempt.

use std::panic::Location;

use chrono::{DateTime, Utc};

use crate::client::RunRow;
use crate::lifecycle::claim::Claimed;
use crate::run::{RunId, Status};

/// What became of one attempt of a run.
///
/// ```no_run
/// # async fn example(engine: &mut watchbell::testing::Engine) -> watchbell::Result<()> {
/// use watchbell::Status;
///
/// for ran in engine.run_due().await? {
///     ran.assert(Status::Normal); // or panics with the error and the output of the attempt
///     assert_eq!(ran.output, ["sent"]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ran {
    /// The number of the run.
    pub id: RunId,
    /// Whose work it was.
    pub handler: String,
    /// The number of the attempt, from 1.
    pub attempt: i32,
    /// Where the run stands now; `pending` if it is to run again.
    pub status: Status,
    /// Why it failed, or failed last.
    pub error: Option<String>,
    /// When it runs again, if it is `pending`.
    pub again_at: Option<DateTime<Utc>>,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// The fire time that it stands for.
    pub fire_at: Option<DateTime<Utc>>,
    /// The engine's time of the attempt.
    pub at: DateTime<Utc>,
    /// What the handler logged, line by line.
    pub output: Vec<String>,
}

impl Ran {
    pub(super) fn new(run: &Claimed, row: &RunRow, at: DateTime<Utc>, output: Vec<String>) -> Self {
        Self {
            id: row.id,
            handler: run.handler.clone(),
            attempt: run.attempt,
            status: row.status,
            error: row.error.clone(),
            again_at: (row.status == Status::Pending).then_some(row.run_at),
            schedule: run.schedule_name.clone(),
            fire_at: run.fire_at,
            at,
            output,
        }
    }

    /// Panics unless the run stands there, with what happened instead.
    ///
    /// # Panics
    /// As it says.
    #[track_caller]
    #[expect(clippy::panic, reason = "that is what an assertion is for")]
    pub fn assert(&self, status: Status) -> &Self {
        if self.status == status {
            return self;
        }
        let error = self.error.as_deref().map(|error| format!("\n  error: {error}")).unwrap_or_default();
        let output: String = self.output.iter().map(|line| format!("\n  output: {line}")).collect();
        panic!(
            "expected run {} of handler \"{}\" to be {status} after attempt {}, it is {}{error}{output}\n  at {}",
            self.id,
            self.handler,
            self.attempt,
            self.status,
            Location::caller()
        );
    }
}

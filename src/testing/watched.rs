//! What became of one attempt at a row of a watched table.

use std::panic::Location;

use chrono::{DateTime, Utc};

/// What became of one attempt at a row of a watched table, from [`Engine::work_rows`](super::Engine::work_rows).
///
/// ```no_run
/// # async fn example(engine: &mut watchbell::testing::Engine) -> watchbell::Result<()> {
/// for row in engine.work_rows("hosts").await? {
///     row.assert("normal"); // or panics with where it stands instead, and the error of the attempt
///     println!("{} of {} by {}", row.key.join("/"), row.watch, row.handler);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchedRow {
    /// The name of the watch.
    pub watch: String,
    /// The row's key columns as text, in order.
    pub key: Vec<String>,
    /// The state that it was taken from, which names the step.
    pub step: String,
    /// Who worked on it.
    pub handler: String,
    /// The number of the attempt at this step, from 1.
    pub attempt: i32,
    /// Where the row stands now; `None` if it is gone.
    pub state: Option<String>,
    /// Why the attempt failed, if it did.
    pub error: Option<String>,
    /// When it is tried again, if it waits for that.
    pub again_at: Option<DateTime<Utc>>,
    /// The engine's time of the attempt.
    pub at: DateTime<Utc>,
}

impl WatchedRow {
    /// Panics unless the row stands at this state, with what happened instead.
    ///
    /// # Panics
    /// As it says.
    #[track_caller]
    #[expect(clippy::panic, reason = "that is what an assertion is for")]
    pub fn assert(&self, state: &str) -> &Self {
        if self.state.as_deref() == Some(state) {
            return self;
        }
        let stands = self.state.as_ref().map_or("it is gone".to_owned(), |state| format!("it is \"{state}\""));
        let error = self.error.as_deref().map(|error| format!("\n  error: {error}")).unwrap_or_default();
        panic!(
            "expected row {} of watch \"{}\" to be \"{state}\" after attempt {} by handler \"{}\", {stands}{error}\n  at {}",
            self.key.join(", "),
            self.watch,
            self.attempt,
            self.handler,
            Location::caller()
        );
    }
}

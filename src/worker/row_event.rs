//! What hooks are told of rows of watches.

use std::time::Duration;

use crate::watch::{Plan, Planned};

/// An attempt at a row of a watch that failed.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::{HandlerResult, Row, Worker, client::Watch};
/// use watchbell::worker::RowEvent;
///
/// # #[derive(serde::Deserialize)] struct Host { id: i64 }
/// async fn init_host(host: Row<Host>) -> HandlerResult { Err("no answer".into()) }
///
/// async fn told(event: RowEvent) {
///     let RowEvent { watch, key, step, handler, attempt, max_attempts, state, error, .. } = event;
///     println!("{watch} {}: {step} -> {state} by {handler}, attempt {attempt} of {max_attempts}: {error}", key.join("/"));
///     if let Some(wait) = event.again_in {
///         println!("again in {wait:?}");
///     }
/// }
///
/// let worker = Worker::builder(pool).watch("hosts", Watch::table("public.hosts"), init_host).on_row_failed(told);
/// worker.run(std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RowEvent {
    /// The name of the watch.
    pub watch: String,
    /// The row's key columns as text, in order.
    pub key: Vec<String>,
    /// The state that it was taken from, which names the step.
    pub step: String,
    /// The name of the handler.
    pub handler: String,
    /// The number of the attempt at this step, from 1.
    pub attempt: i32,
    /// How many attempts there are in all.
    pub max_attempts: i16,
    /// Where the row stands now: where it was taken from, or at the error state.
    pub state: String,
    /// What went wrong, in words.
    pub error: String,
    /// How long until the next attempt; none was the last.
    pub again_in: Option<Duration>,
}

/// What an event is made of when somebody waits for it.
pub(super) struct Failed<'a> {
    pub(super) key: &'a [String],
    pub(super) attempt: i32,
    pub(super) error: &'a str,
    pub(super) again_in: Option<Duration>,
}

impl Failed<'_> {
    pub(super) fn event(&self, plan: &Plan, Planned { step, .. }: &Planned) -> RowEvent {
        RowEvent {
            watch: plan.watch.name.clone(),
            key: self.key.to_vec(),
            step: step.from.clone(),
            handler: step.handler.clone(),
            attempt: self.attempt,
            max_attempts: step.max_attempts,
            state: if self.again_in.is_some() { step.from.clone() } else { step.error.clone() },
            error: self.error.to_owned(),
            again_in: self.again_in,
        }
    }
}

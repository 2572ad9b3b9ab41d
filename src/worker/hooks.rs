//! Hooks: code of the application that is told what became of runs, and of rows that failed.

use std::{fmt, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::mpsc::Receiver, time};

use super::row_event::RowEvent;
use crate::{
    handler::{Boxed, shown_key},
    run::RunId,
    run::Status,
};

/// How long one call of a hook may take before it is dropped.
const HOOK_MAX: Duration = Duration::from_secs(10);

/// What happened to an attempt of a run.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::Worker;
/// use watchbell::worker::RunEvent;
///
/// async fn report() {}
///
/// async fn told(event: RunEvent) {
///     let RunEvent { run_id, attempt, max_attempts, status, took, queue, .. } = event;
///     println!("{queue} {run_id}: {status} after {took:?}, attempt {attempt} of {max_attempts}");
///     if let Some(wait) = event.again_in {
///         println!("again in {wait:?}: {}", event.error.unwrap_or_default());
///     }
/// }
///
/// Worker::builder(pool).handler("report", report).on_retry(told).on_finish(told).run(std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunEvent {
    /// Identifies the run; the same in every attempt.
    pub run_id: RunId,
    /// The name of its handler.
    pub handler: String,
    /// Its queue.
    pub queue: String,
    /// The schedule that made it, if one did.
    pub schedule: Option<String>,
    /// The number of the attempt, from 1.
    pub attempt: i32,
    /// How many attempts there are in all.
    pub max_attempts: i16,
    /// What the run is now: `running` at a start, `pending` before a retry, at the end `normal`, `failed` or
    /// `cancelled`. Of a lost one `running`: what it is now is for another worker to say.
    pub status: Status,
    /// How long the attempt took so far.
    pub took: Duration,
    /// Why it did not succeed, in words, if it did not.
    pub error: Option<String>,
    /// How long until the next attempt, for a retry.
    pub again_in: Option<Duration>,
}

/// What a hook waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    Start,
    Finish,
    Retry,
    Lost,
}

/// What is on its way to the hooks.
#[derive(Debug)]
pub(super) enum Told {
    Run(Occasion, RunEvent),
    RowFailed(Box<RowEvent>),
}

type Hook<E> = Arc<dyn Fn(E) -> Boxed<'static, ()> + Send + Sync>;

/// What the application wants to be told.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    all: Vec<(Occasion, Hook<RunEvent>)>,
    of_rows: Vec<Hook<RowEvent>>,
}

impl Hooks {
    pub(super) fn add<F, Fut>(&mut self, occasion: Occasion, hook: F)
    where
        F: Fn(RunEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.all.push((occasion, Arc::new(move |event| Box::pin(hook(event)))));
    }

    pub(super) fn add_of_rows<F, Fut>(&mut self, hook: F)
    where
        F: Fn(RowEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.of_rows.push(Arc::new(move |event| Box::pin(hook(event))));
    }

    /// Whether anybody waits for rows that fail.
    pub(super) fn hear_of_rows(&self) -> bool {
        !self.of_rows.is_empty()
    }

    /// The occasions that anybody waits for.
    pub(super) fn occasions(&self) -> Vec<Occasion> {
        self.all.iter().map(|(occasion, _)| *occasion).collect()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.occasions()).finish()
    }
}

/// Calls the hooks, one after the other and apart from all work, until nobody can tell anything any more.
pub(super) async fn tell(hooks: Hooks, mut inbox: Receiver<Told>) {
    while let Some(told) = inbox.recv().await {
        match told {
            Told::Run(occasion, event) => {
                let run = event.run_id.0;
                for (_, hook) in hooks.all.iter().filter(|(of, _)| *of == occasion) {
                    match call(hook, event.clone()).await {
                        Called::Done => {}
                        Called::Panicked => tracing::error!(run, ?occasion, "a hook panicked; the run is not affected"),
                        Called::Dropped => {
                            tracing::error!(run, ?occasion, "a hook took longer than {HOOK_MAX:?} and was dropped");
                        }
                    }
                }
            }
            Told::RowFailed(event) => {
                let (watch, step, key) = (&event.watch, &event.step, shown_key(&event.key));
                for hook in &hooks.of_rows {
                    match call(hook, (*event).clone()).await {
                        Called::Done => {}
                        Called::Panicked => {
                            tracing::error!(watch, step, key, "a hook panicked; the row is not affected");
                        }
                        Called::Dropped => {
                            tracing::error!(watch, step, key, "a hook took longer than {HOOK_MAX:?} and was dropped");
                        }
                    }
                }
            }
        }
    }
}

/// How a call of a hook ended.
enum Called {
    Done,
    Panicked,
    Dropped,
}

async fn call<E: Send + 'static>(hook: &Hook<E>, event: E) -> Called {
    let hook = Arc::clone(hook);
    let call = AssertUnwindSafe(async move { hook(event).await }).catch_unwind();
    match time::timeout(HOOK_MAX, call).await {
        Ok(Ok(())) => Called::Done,
        Ok(Err(_)) => Called::Panicked,
        Err(_) => Called::Dropped,
    }
}

//! Hooks: code of the application that is told what became of runs.

use std::{fmt, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::mpsc::Receiver, time};

use crate::{handler::Boxed, run::RunId, run::Status};

/// How long one call of a hook may take before it is dropped.
const HOOK_MAX: Duration = Duration::from_secs(10);

/// What happened to an attempt of a run.
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

type Hook = Arc<dyn Fn(RunEvent) -> Boxed<'static, ()> + Send + Sync>;

/// What the application wants to be told.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    all: Vec<(Occasion, Hook)>,
}

impl Hooks {
    pub(super) fn add<F, Fut>(&mut self, occasion: Occasion, hook: F)
    where
        F: Fn(RunEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.all.push((occasion, Arc::new(move |event| Box::pin(hook(event)))));
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

/// Calls the hooks, one after the other and apart from all runs, until nobody can tell anything any more.
pub(super) async fn tell(hooks: Hooks, mut inbox: Receiver<(Occasion, RunEvent)>) {
    while let Some((occasion, event)) = inbox.recv().await {
        for (_, hook) in hooks.all.iter().filter(|(of, _)| *of == occasion) {
            let (hook, event) = (Arc::clone(hook), event.clone());
            let run = event.run_id.0;
            let call = AssertUnwindSafe(async move { hook(event).await }).catch_unwind();
            match time::timeout(HOOK_MAX, call).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::error!(run, ?occasion, "a hook panicked; the run is not affected"),
                Err(_) => tracing::error!(run, ?occasion, "a hook took longer than {HOOK_MAX:?} and was dropped"),
            }
        }
    }
}

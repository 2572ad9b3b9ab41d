//! A call of a handler: its panics are caught, its time is bounded, it is asked to stop before it is dropped.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::{pin, time};

use super::{Context, Outcome, StopReason};
use crate::run::transition::Event;

/// How a call came to its end.
pub(crate) enum Ended {
    Returned(Outcome),
    Panicked(String),
    /// Asked to stop, it did not within its grace, and its future was dropped.
    Dropped,
}

/// How long a handler that was asked to stop is waited for.
pub(crate) enum Patience {
    /// So long; then its future is dropped.
    For(Duration),
    /// To its end: dropping its future would not stop it.
    Endless,
}

/// Calls a handler: catches panics, enforces the deadline, asks it to stop before dropping it.
pub(crate) async fn call(work: impl Future<Output = Outcome>, ctx: &Context, patience: Patience) -> Ended {
    let work = AssertUnwindSafe(work).catch_unwind();
    pin!(work);
    let returned = tokio::select! {
        biased;
        returned = &mut work => returned,
        () = stopped(ctx) => match patience {
            Patience::For(grace) => match time::timeout(grace, &mut work).await {
                Ok(returned) => returned,
                Err(_) => return Ended::Dropped,
            },
            Patience::Endless => {
                tracing::warn!(
                    run = ctx.run_id().0,
                    handler = ctx.handler(),
                    reason = ?ctx.stop_reason(),
                    "a blocking handler was asked to stop; it keeps its slot until it does"
                );
                work.await
            }
        },
    };
    match returned {
        Ok(outcome) => Ended::Returned(outcome),
        Err(panic) => Ended::Panicked(panic_message(&*panic)),
    }
}

/// Completes when the handler is to stop, because it was asked to or because its time is over.
async fn stopped(ctx: &Context) {
    match ctx.deadline() {
        None => ctx.cancelled().await,
        Some(deadline) => {
            if time::timeout_at(deadline, ctx.cancelled()).await.is_err() {
                ctx.stop(StopReason::Timeout);
            }
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

impl Ended {
    /// What the end of a call means; `None` when the work is no longer ours to speak of.
    pub(crate) fn event(self, ctx: &Context) -> Option<Event> {
        let stop = ctx.stop_reason();
        if stop == Some(StopReason::LeaseLost) {
            return None;
        }
        let message = match self {
            Ended::Returned(Outcome::Done) => return Some(Event::Succeeded),
            Ended::Returned(Outcome::Recorded(_)) => return None,
            Ended::Returned(Outcome::Cancel(reason)) => return Some(Event::Cancelled { reason }),
            Ended::Returned(Outcome::Snooze(by)) => match stop {
                Some(StopReason::Cancelled(reason)) => return Some(Event::Cancelled { reason }),
                _ => return Some(Event::Snoozed { by }),
            },
            Ended::Panicked(message) => return Some(Event::Failed { kind: "panic", message, after: None }),
            Ended::Returned(Outcome::Failed(error)) => {
                if stop.is_none() {
                    let message = error.to_string();
                    return Some(if error.fatal {
                        Event::Fatal { message }
                    } else {
                        Event::Failed { kind: "error", message, after: error.after }
                    });
                }
                error.to_string()
            }
            Ended::Dropped => "it did not stop when asked to".to_owned(),
        };
        Some(match stop {
            Some(StopReason::Cancelled(reason)) => Event::Cancelled { reason },
            Some(StopReason::Shutdown) => Event::Interrupted,
            _ => Event::Failed { kind: "timeout", message: format!("timed out: {message}"), after: None },
        })
    }
}

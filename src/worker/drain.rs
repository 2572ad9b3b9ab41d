//! Drain: stop in good order.
//!
//! **In** the runs in hand. **Out** those that end in time, ended; the others asked to stop, then given back
//! (`Interrupted`). **Lock** none. **Crash** as any crash: rescue.

use std::{future::Future, time::Duration};

use tokio::time;

use super::shared::{Held, Shared};
use crate::{
    handler::StopReason,
    lifecycle::finish::Finished,
    retry::RetryPolicy,
    run::transition::{Event, decide},
};

/// Waits for the runs in hand; `force` cuts the wait short.
pub(super) async fn drain(shared: &Shared, force: impl Future<Output = ()> + Send) {
    let waiting = shared.in_hand();
    if waiting > 0 {
        tracing::info!(runs = waiting, timeout = ?shared.config.drain_timeout, "draining");
    }
    tokio::pin!(force);
    let ended = async {
        // a claim that is under way brings its runs first
        drop(shared.claiming.lock().await);
        drop(shared.claiming_rows.lock().await);
        if time::timeout(shared.config.drain_timeout, shared.idle()).await.is_err() {
            tracing::warn!(runs = shared.in_hand(), "drain timeout is over: asking runs to stop");
            shared.stop_runs(&StopReason::Shutdown);
            // execute drops the future after the same grace; a little more for its verdict
            let _ = time::timeout(shared.config.grace + Duration::from_millis(200), shared.idle()).await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = &mut force => {
            tracing::warn!(runs = shared.in_hand(), "told to stop at once");
            shared.stop_runs(&StopReason::Shutdown);
            shared.watches.force.cancel();
            let _ = time::timeout(Duration::from_millis(100), shared.idle()).await;
        }
    }
    give_up(shared);
    // one that ended by itself in this moment still counts until its verdict is on its way
    let _ = time::timeout(Duration::from_millis(100), shared.idle()).await;
}

/// Ends the tasks of all runs in hand and gives the runs back.
pub(super) fn give_up(shared: &Shared) {
    for held in shared.release_all() {
        interrupt(shared, &held);
    }
}

/// Ends a task that did not stop by itself and gives its run back.
fn interrupt(shared: &Shared, held: &Held) {
    if let Some(task) = &held.task {
        task.abort();
    }
    if shared.may_outlive(held) {
        tracing::warn!(
            run = held.run.id,
            handler = held.run.handler,
            "a blocking handler did not stop: its run is given back while its thread may go on in this process"
        );
    }
    let event = if held.started.is_some() { Event::Interrupted } else { Event::GivenBack };
    let verdict = decide(held.run.standing(), event, &RetryPolicy::default());
    let finished = Finished::of(&held.run, held.started.map_or(Duration::ZERO, |s| s - held.claimed), verdict);
    shared.observer.ends(&held.run, &finished, held.started.map_or(Duration::ZERO, |s| s.elapsed()));
    shared.report(finished);
}

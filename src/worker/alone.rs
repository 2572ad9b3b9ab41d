//! With whom a run, or a watched row, is executed: what took its worker down twice runs alone, so that it takes no
//! others with it.
//!
//! **In** a claimed run that has a slot. **Out** leave to execute it, kept as long as the [`Company`]. **Lock**
//! `Shared::alone`, for writing by what is to be alone. **Crash** in company, whatever the worker had in hand is
//! charged with it. Alone, the worker's row names what runs, and so rescue charges nothing else: the others had not
//! begun, though they may have been claimed with it.

use std::time::Duration;

use tokio::{
    sync::{RwLockReadGuard, RwLockWriteGuard},
    time,
};

use super::shared::Shared;
use crate::lifecycle::claim::Claimed;

const ALONE: &str = include_str!("../sql/5_alone.sql");

/// After this many crashes a run is executed alone.
const CRASHES_ALONE: i16 = 2;
/// How long a run waits to be alone before it runs in company after all.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long its name may take to be written; then it runs all the same.
const NAME_MAX: Duration = Duration::from_secs(5);

/// With whom a run is executed.
pub(super) enum Company<'a> {
    /// Side by side with all others.
    Others(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, ()>),
    /// Alone: it took its worker down twice.
    Alone(RwLockWriteGuard<'a, ()>),
    /// In company after all, since the others did not end in time.
    Nobody,
}

impl<'a> Company<'a> {
    /// Waits until a run may be executed.
    pub(super) async fn of(shared: &'a Shared, run: &Claimed) -> Self {
        if run.crashes < CRASHES_ALONE {
            return Self::Others(shared.alone.read().await);
        }
        let Ok(alone) = time::timeout(WAIT_MAX, shared.alone.write()).await else {
            tracing::warn!(
                run = run.id,
                crashes = run.crashes,
                "could not be alone within {WAIT_MAX:?}: running in company"
            );
            return Self::Nobody;
        };
        name(shared, run.claimed_by, Some(run.id)).await;
        Self::Alone(alone)
    }

    /// Lets the others go on.
    pub(super) async fn part(self, shared: &Shared, run: &Claimed) {
        if let Self::Alone(alone) = self {
            name(shared, run.claimed_by, None).await;
            drop(alone);
        }
    }
}

/// Notes in the worker's row what it executes alone, or that it does so no longer.
async fn name(shared: &Shared, worker: i32, run: Option<i64>) {
    let query = sqlx::query(ALONE).bind(worker).bind(run).execute(&shared.executor.pool);
    match time::timeout(NAME_MAX, query).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(worker, %error, "what runs alone could not be noted"),
        Err(_) => tracing::warn!(worker, "what runs alone could not be noted within {NAME_MAX:?}"),
    }
}

//! How many rows were moved on, given up and will be tried again: counted here, written twice a second.
//!
//! A worker that is killed takes what it counted last with it.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use super::{
    super::{session::within, shared::locked},
    PLAN_MAX, Site,
};

const WRITE: &str = include_str!("../../sql/8_watch_tally.sql");

/// Of one step: moved on, given up, to be tried again.
type Counts = (i64, i64, i64);

#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Mutex<HashMap<(i64, String), Counts>>,
    waits: AtomicBool,
    begun: Notify,
}

impl Tally {
    /// Counts rows of a step.
    pub(super) fn add(&self, watch: i64, step: &str, (done, failed, retried): Counts) {
        if done + failed + retried == 0 {
            return;
        }
        let mut counts = locked(&self.counts);
        let of = counts.entry((watch, step.to_owned())).or_default();
        *of = (of.0 + done, of.1 + failed, of.2 + retried);
        drop(counts);
        if !self.waits.swap(true, Ordering::AcqRel) {
            self.begun.notify_one();
        }
    }

    /// Completes when there is something to write, after there was nothing.
    pub(super) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Whether nothing was counted since the last writing.
    pub(super) fn is_empty(&self) -> bool {
        !self.waits.load(Ordering::Acquire)
    }

    /// Writes what was counted; what cannot be written is counted with the rest.
    pub(super) async fn write(&self, all: &Site) {
        self.waits.store(false, Ordering::Release);
        let counts = std::mem::take(&mut *locked(&self.counts));
        if counts.is_empty() {
            return;
        }
        let mut sorted: Vec<_> = counts.iter().collect();
        sorted.sort();
        let (mut watches, mut steps) = (vec![], vec![]);
        let (mut done, mut failed, mut retried) = (vec![], vec![], vec![]);
        for ((watch, step), of) in sorted {
            watches.push(*watch);
            steps.push(step.as_str());
            done.push(of.0);
            failed.push(of.1);
            retried.push(of.2);
        }
        let write = sqlx::query(WRITE).bind(all.shared.worker()).bind(watches).bind(steps);
        let write = write.bind(done).bind(failed).bind(retried).execute(&all.own);
        if let Err(error) = within(PLAN_MAX, write).await {
            tracing::debug!(%error, "the totals of watches could not be written; trying again");
            counts.into_iter().for_each(|((watch, step), of)| self.add(watch, &step, of));
        }
    }
}

//! Verdicts that were handed over and do not stand in the database yet.
//!
//! **In** verdicts on their way to the flusher or the settler. **Out** how many there are, and which: what is claimed in
//! the database, is in nobody's hand and not among these is a stray. **Lock** a mutex for a few steps, never over an
//! await. **Crash** the runs and rows are still claimed, and come back by rescue.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::shared::locked;
use crate::lifecycle::finish::Finished;

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// By number and fence.
    verdicts: Mutex<HashSet<(i64, i64)>>,
    count: AtomicUsize,
}

impl Unwritten {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The runs, and rows, that they are about.
    pub(super) fn ids(&self) -> Vec<i64> {
        locked(&self.verdicts).iter().map(|(id, _)| *id).collect()
    }

    /// One is handed over.
    pub(super) fn add(&self, verdict: &Finished) {
        let mut verdicts = locked(&self.verdicts);
        verdicts.insert((verdict.id, verdict.fence));
        self.count.store(verdicts.len(), Ordering::Release);
    }

    /// These were written, or refused, but for those that are to be sent again.
    pub(super) fn settle<'f>(&self, sent: impl IntoIterator<Item = &'f Finished>, held: &[Finished]) {
        let mut verdicts = locked(&self.verdicts);
        for verdict in sent {
            verdicts.remove(&(verdict.id, verdict.fence));
        }
        verdicts.extend(held.iter().map(|verdict| (verdict.id, verdict.fence)));
        self.count.store(verdicts.len(), Ordering::Release);
    }
}

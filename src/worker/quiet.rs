//! Quiet: whether the watches have nothing left to do now. A worker that works `once` ends when they are.
//!
//! **In** looks of the steps, and ends of what is in hand. **Out** whether anything is left, and a wish to look once
//! more to those who have not looked since the last end. **Lock** none of the database's. **Crash** nothing is kept.
//!
//! No two steps look at the same moment, and what leaves one may come to another. So a step notes of a look that
//! brought nothing how many ends there had been when it began. Where nothing is in hand and every note is of the last
//! end, nothing has moved since the first of these looks: nothing is left, but for what others brought meanwhile.
//! Whoever ends something counts the end first and only then stops counting it as in hand.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::shared::{Shared, locked};

/// The note of a step that is not worked here.
const NEVER: u64 = u64::MAX;

/// A step of a watch as the others know it.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Wakes it: a row may have come.
    pub(super) wake: Notify,
    /// How many ends there had been when its last look in vain began; 0 before it looked.
    in_vain: AtomicU64,
    /// And when it was asked to look.
    asked: AtomicU64,
}

impl Bell {
    /// Of a step that is worked in this worker, or is not.
    pub(super) fn of(is_worked: bool) -> Self {
        let in_vain = if is_worked { 0 } else { NEVER };
        Self { in_vain: in_vain.into(), ..Self::default() }
    }
}

/// How far the worker is with its watches.
#[derive(Debug)]
pub(super) struct Quiet {
    /// Runs, rows and batches that have ended, from 1.
    ends: AtomicU64,
    /// Looks and batches that are under way.
    open: AtomicUsize,
    /// The steps of each watch at work.
    steps: Mutex<HashMap<i64, Arc<[Bell]>>>,
    /// The heartbeat's mark that the list of watches was read for.
    read: Mutex<Option<i64>>,
}

/// A look or a batch that is under way.
pub(super) struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Quiet {
    pub(super) fn new() -> Self {
        Self { ends: 1.into(), open: AtomicUsize::new(0), steps: Mutex::default(), read: Mutex::default() }
    }

    /// How many ends there have been.
    pub(super) fn ends(&self) -> u64 {
        self.ends.load(Ordering::Acquire)
    }

    /// Something in hand has ended, and whatever it wrote is there.
    pub(super) fn ended(&self) {
        self.ends.fetch_add(1, Ordering::AcqRel);
    }

    /// A look begins.
    pub(super) fn open(&self) -> Open<'_> {
        self.open.fetch_add(1, Ordering::AcqRel);
        Open(&self.open)
    }

    /// The steps of a watch are at work.
    pub(super) fn enter(&self, watch: i64, steps: Arc<[Bell]>) {
        locked(&self.steps).insert(watch, steps);
    }

    /// They are not any more.
    pub(super) fn leave(&self, watch: i64) {
        locked(&self.steps).remove(&watch);
    }

    /// A row may have come to a step of this watch.
    pub(super) fn wake(&self, watch: i64) {
        if let Some(bells) = locked(&self.steps).get(&watch) {
            bells.iter().for_each(|bell| bell.wake.notify_one());
        }
    }

    /// The list of watches is the one of this mark.
    pub(super) fn read(&self, mark: Option<i64>) {
        *locked(&self.read) = mark;
    }
}

impl Shared {
    /// A step's look that began after so many ends brought nothing that may start now.
    pub(super) fn looked_in_vain(&self, bell: &Bell, ends: u64) {
        bell.in_vain.fetch_max(ends, Ordering::AcqRel);
        self.tell_quiet();
    }

    /// How far the worker is may matter to the poller.
    pub(super) fn tell_quiet(&self) {
        if self.config.once {
            self.wake.notify_one();
        }
    }

    /// Whether nothing is in hand and all steps have looked in vain since so many ends, the last. Those that have
    /// not are asked to.
    pub(super) fn is_quiet(&self, ends: u64) -> bool {
        // in this order: what has left the hand meanwhile has been counted
        let open = self.quiet.open.load(Ordering::Acquire);
        if open > 0 || self.in_hand() > 0 || self.unwritten.count() > 0 || self.quiet.ends() != ends {
            return false;
        }
        if self.watches.mark_heard() != Some(*locked(&self.quiet.read)) {
            return false;
        }
        let mut quiet = true;
        for bell in locked(&self.quiet.steps).values().flat_map(|steps| steps.iter()) {
            let in_vain = bell.in_vain.load(Ordering::Acquire);
            if in_vain == ends || in_vain == NEVER {
                continue;
            }
            quiet = false;
            if bell.asked.swap(ends, Ordering::AcqRel) != ends {
                bell.wake.notify_one();
            }
        }
        quiet
    }
}

//! Room for the runs of handlers of which only so many may run at once in this worker.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::shared::Shared;
use crate::handler::Registry;

/// How much room each limited handler has; other handlers are not in here.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    by_handler: BTreeMap<String, Arc<Room>>,
}

/// The room of one handler.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    taken: AtomicUsize,
}

impl Rooms {
    pub(super) fn of(registry: &Registry) -> Self {
        let room = |most| Arc::new(Room { most, taken: AtomicUsize::new(0) });
        Self { by_handler: registry.limited().map(|(handler, most)| (handler.to_owned(), room(most))).collect() }
    }

    /// The room of a limited handler.
    pub(super) fn get(&self, handler: &str) -> Option<&Arc<Room>> {
        self.by_handler.get(handler)
    }

    /// Whether no place is taken: what was not claimed was not left for want of room.
    pub(super) fn are_empty(&self) -> bool {
        self.by_handler.values().all(|room| room.taken.load(Ordering::Acquire) == 0)
    }
}

impl Room {
    /// How many more runs it has room for.
    pub(super) fn free(&self) -> usize {
        self.most.saturating_sub(self.taken.load(Ordering::Acquire))
    }
}

/// A place in a room, from the claim until the run's task is over: a handler that cannot be stopped keeps it
/// even when its run was given up.
pub(super) struct Place {
    room: Arc<Room>,
    shared: Arc<Shared>,
}

impl Place {
    /// A place for a run of this handler, if its places are counted.
    pub(super) fn take(shared: &Arc<Shared>, handler: &str) -> Option<Self> {
        let room = Arc::clone(shared.rooms.get(handler)?);
        room.taken.fetch_add(1, Ordering::AcqRel);
        Some(Self { room, shared: Arc::clone(shared) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(1, Ordering::AcqRel);
        self.shared.wake.notify_one(); // the poller may claim for it again
    }
}

//! The handlers that are claimed for together: all without a limit, or one with its own.
//!
//! One claim for all would take runs of a full handler, which would wait in slots that others could use. So
//! each limited handler has a claim of its own, for as many runs as it has room; while it is full it has
//! none. Worker programs without limits have one share, and one statement as ever.

use std::sync::Arc;

use super::{room::Room, shared::Shared};
use crate::lifecycle::claim::{Claimant, Lanes};

/// Handlers that are claimed for together.
pub(super) struct Share {
    pub(super) who: Claimant,
    pub(super) lanes: Lanes,
    room: Option<Arc<Room>>,
}

impl Share {
    /// The shares of a worker: at least one, as it has at least one handler.
    pub(super) fn all(shared: &Shared) -> Vec<Self> {
        let share = |handlers: Vec<String>, room| Self {
            who: Claimant {
                worker: shared.worker(),
                queues: shared.config.queues.clone(),
                handlers,
                labels: shared.who.labels.clone(),
            },
            lanes: Lanes::default(),
            room,
        };
        let handlers = shared.who.handlers.iter().cloned();
        let (limited, free): (Vec<_>, Vec<_>) = handlers.partition(|handler| shared.rooms.get(handler).is_some());
        let mut all = vec![];
        if !free.is_empty() {
            all.push(share(free, None));
        }
        all.extend(limited.into_iter().map(|handler| {
            let room = shared.rooms.get(&handler).cloned();
            share(vec![handler], room)
        }));
        all
    }

    /// How many runs to claim for it, of as many as the worker wants.
    pub(super) fn want(&self, most: usize) -> usize {
        self.room.as_ref().map_or(most, |room| room.free().min(most))
    }
}

//! The observer: notes what happens to runs, and to rows that fail, and tells the hooks and the log, after the fact.
//!
//! An end is told when the database has accepted it. Nothing waits for a hook: events go through a channel,
//! and when 10,000 wait, further ones are dropped and the log says so. What neither a hook nor the log hears is
//! not noted.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{
    hooks::{Hooks, Occasion, RunEvent, Told},
    journal,
    row_event::RowEvent,
    shared::locked,
};
use crate::{
    lifecycle::{claim::Claimed, finish::Finished},
    run::{RunId, Status},
};

/// How many events may wait for the hooks.
const EVENTS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Observer {
    told: Mutex<Option<Sender<Told>>>,
    wanted: Vec<Occasion>,
    /// Somebody waits for rows that fail.
    hears_of_rows: bool,
    /// Ends that are on their way to the database, by run and fence.
    open: Mutex<HashMap<(i64, i64), Open>>,
}

/// An end that the database has not answered yet.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) event: RunEvent,
    /// For the hooks.
    told: bool,
    /// For the log.
    logged: bool,
}

impl Observer {
    /// For these hooks; what comes out of the receiver is for them.
    pub(super) fn of(hooks: &Hooks) -> (Self, Receiver<Told>) {
        let (told, inbox) = channel(EVENTS_MAX);
        let (wanted, hears_of_rows) = (hooks.occasions(), hooks.hear_of_rows());
        let told = (!wanted.is_empty() || hears_of_rows).then_some(told);
        (Self { told: Mutex::new(told), wanted, hears_of_rows, open: Mutex::default() }, inbox)
    }

    /// Whether nobody waits for an end.
    pub(super) fn is_silent(&self) -> bool {
        locked(&self.open).is_empty()
    }

    /// A handler is about to be called.
    pub(super) fn started(&self, run: &Claimed) {
        if self.wanted.contains(&Occasion::Start) && run.row.is_none() {
            self.tell(Occasion::Start, event(run, Duration::ZERO));
        }
    }

    /// An attempt has ended and its verdict is about to be sent.
    pub(super) fn ends(&self, run: &Claimed, finished: &Finished, took: Duration) {
        let verdict = &finished.verdict;
        // given back: nothing has happened, as far as hooks are concerned
        let is_given_back = verdict.unstarted && verdict.delay.is_none() && !verdict.status.is_terminal();
        let told = !self.wanted.is_empty() && !is_given_back;
        let logged = journal::hears(verdict);
        if run.row.is_some() || (!told && !logged) {
            return;
        }
        let error = verdict.error.as_ref().map(|(_, message)| message.clone());
        let ended = RunEvent { status: verdict.status, error, again_in: verdict.delay, ..event(run, took) };
        locked(&self.open).insert((run.id, run.fence), Open { event: ended, told, logged });
    }

    /// The database has accepted that end, or refused it because somebody else has the run.
    pub(super) fn settled(&self, finished: &Finished, accepted: bool) {
        let Some(open) = locked(&self.open).remove(&(finished.id, finished.fence)) else { return };
        if accepted && open.logged {
            journal::ended(&open, finished);
        }
        if !open.told {
            return;
        }
        let event = open.event;
        match (accepted, event.status) {
            (false, _) => self.tell(Occasion::Lost, RunEvent { status: Status::Running, again_in: None, ..event }),
            (true, Status::Pending) => self.tell(Occasion::Retry, event),
            (true, _) => self.tell(Occasion::Finish, event),
        }
    }

    /// A transactional handler has recorded its end itself, or was too late to.
    pub(super) fn recorded(&self, run: &Claimed, accepted: bool, took: Duration) {
        journal::recorded(run, accepted, took);
        if !self.wanted.is_empty() {
            let (occasion, status) =
                if accepted { (Occasion::Finish, Status::Normal) } else { (Occasion::Lost, Status::Running) };
            self.tell(occasion, RunEvent { status, ..event(run, took) });
        }
    }

    /// The worker's lease is lost while the run's handler was at work.
    pub(super) fn lost(&self, run: &Claimed, took: Duration) {
        if self.wanted.contains(&Occasion::Lost) && run.row.is_none() {
            self.tell(Occasion::Lost, event(run, took));
        }
    }

    /// Nothing will be told any more.
    pub(super) fn close(&self) {
        locked(&self.told).take();
    }

    fn tell(&self, occasion: Occasion, event: RunEvent) {
        if self.wanted.contains(&occasion) {
            self.send(Told::Run(occasion, event));
        }
    }

    /// The database has accepted that an attempt at a row failed. The event is only made if somebody waits for it.
    pub(super) fn row_failed(&self, event: impl FnOnce() -> RowEvent) {
        if self.hears_of_rows {
            self.send(Told::RowFailed(Box::new(event())));
        }
    }

    fn send(&self, event: Told) {
        let told = locked(&self.told);
        let Some(told) = &*told else { return };
        if told.try_send(event).is_err() {
            tracing::warn!("an event was dropped: the hooks are {EVENTS_MAX} events behind");
        }
    }
}

fn event(run: &Claimed, took: Duration) -> RunEvent {
    RunEvent {
        run_id: RunId(run.id),
        handler: run.handler.clone(),
        queue: run.queue.clone(),
        schedule: run.schedule_name.clone(),
        attempt: run.attempt,
        max_attempts: run.max_attempts,
        status: Status::Running,
        took,
        error: None,
        again_in: None,
    }
}

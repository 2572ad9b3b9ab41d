//! What runs count in: one [`Meter`] for each queue and handler, found once a claim and kept by the run.
//!
//! Counting a start or an end through it is a few atomic additions: no lock, no lookup, no allocation.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use ::metrics::{Counter, Histogram};

use super::{
    OTHER,
    list::{RUN_DURATION, RUN_LATENESS, RUN_RETRIES, RUNS_FINISHED, RUNS_STARTED},
    record::{counter, histogram},
};

/// What may have made a run, as `runs.trigger` has it; the last stands for what a newer version brings.
const TRIGGERS: [&str; 8] = ["enqueue", "schedule", "catch_up", "run_now", "backfill", "retry", "callback", OTHER];

/// The ends of a run.
const ENDS: [&str; 3] = ["normal", "failed", "cancelled"];

/// Pairs of queue and handler with series of their own.
const PAIRS_MAX: usize = 1000;

/// Of one worker: what its recorder was when it started is what its runs count in.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_queue: HashMap<String, HashMap<String, Meter>>,
    count: usize,
    others: Option<Meter>,
}

impl Meters {
    /// The series of a queue and handler; beyond the first 1,000 pairs those of all others together.
    pub(crate) fn of(&self, queue: &str, handler: &str) -> Meter {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = known.by_queue.get(queue).and_then(|handlers| handlers.get(handler)) {
            return meter.clone();
        }
        if known.count >= PAIRS_MAX {
            return known.others.get_or_insert_with(|| Meter::new(OTHER, OTHER)).clone();
        }
        known.count += 1;
        let meter = Meter::new(queue, handler);
        known.by_queue.entry(queue.to_owned()).or_default().insert(handler.to_owned(), meter.clone());
        meter
    }
}

/// The series of one queue and handler. Cheap to clone; the default counts nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Option<Arc<Series>>);

struct Series {
    queue: String,
    handler: String,
    started: [OnceLock<Counter>; TRIGGERS.len()],
    lateness: [OnceLock<Histogram>; TRIGGERS.len()],
    finished: [Counter; ENDS.len()],
    retries: Counter,
    duration: Histogram,
}

impl Meter {
    /// All ends are there from the start, at zero: or the first failure would be no increase.
    fn new(queue: &str, handler: &str) -> Self {
        let series = Series {
            queue: queue.to_owned(),
            handler: handler.to_owned(),
            started: Default::default(),
            lateness: Default::default(),
            finished: ENDS.map(|status| counter(&RUNS_FINISHED, &[queue, handler, status])),
            retries: counter(&RUN_RETRIES, &[queue, handler]),
            duration: histogram(&RUN_DURATION, &[queue, handler]),
        };
        for trigger in &TRIGGERS[..2] {
            series.started(trigger);
        }
        Self(Some(Arc::new(series)))
    }

    /// A handler is about to be called, this long after its run was due.
    pub(crate) fn started(&self, trigger: &str, late: Duration) {
        let Some(series) = &self.0 else { return };
        let (counter, lateness) = series.started(trigger);
        counter.increment(1);
        lateness.record(late.as_secs_f64());
    }

    /// The handler has returned, or was dropped.
    pub(crate) fn returned(&self, took: Duration) {
        if let Some(series) = &self.0 {
            series.duration.record(took.as_secs_f64());
        }
    }

    /// The database has accepted the end of a run.
    pub(crate) fn finished(&self, status: &str) {
        let Some(series) = &self.0 else { return };
        if let Some(at) = ENDS.iter().position(|end| *end == status) {
            series.finished[at].increment(1);
        }
    }

    /// The database has accepted that an attempt failed and another one follows.
    pub(crate) fn retried(&self) {
        if let Some(series) = &self.0 {
            series.retries.increment(1);
        }
    }
}

/// Where something is counted is no part of what happened.
impl PartialEq for Meter {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Series {
    fn started(&self, trigger: &str) -> (&Counter, &Histogram) {
        let at = TRIGGERS.iter().position(|known| *known == trigger).unwrap_or(TRIGGERS.len() - 1);
        let started =
            self.started[at].get_or_init(|| counter(&RUNS_STARTED, &[&self.queue, &self.handler, TRIGGERS[at]]));
        let lateness = self.lateness[at].get_or_init(|| histogram(&RUN_LATENESS, &[&self.queue, TRIGGERS[at]]));
        (started, lateness)
    }
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series").field("queue", &self.queue).field("handler", &self.handler).finish_non_exhaustive()
    }
}

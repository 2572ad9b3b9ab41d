//! What the loops of a worker count: looks, wake-ups, fire times, errors; and what watches will.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::metrics::{Counter, Histogram};

use super::{
    OTHER,
    list::{
        DB_ERRORS, POLL_CLAIMED_ROWS, POLL_DURATION, POLLS, SCHEDULE_FIRES, WAKEUPS, WATCH_HANDLER_DURATION,
        WATCH_POLL_DURATION, WATCH_ROWS,
    },
    record::{count, counter, histogram, record},
};

/// Names with series of their own; a thousand and first one counts among the others.
const NAMES_MAX: usize = 1000;

/// What the poller looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Requests, the dead, upkeep.
    Duties,
    /// Schedules that are due.
    Schedules,
    /// Runs to claim.
    Runs,
}

const LOOKS: [&str; 3] = ["duties", "schedules", "runs"];
const RESULTS: [&str; 3] = ["rows", "empty", "error"];

/// What a poller counts, with the handles kept: a busy one looks some hundred times a second.
#[derive(Debug)]
pub(crate) struct PollMeter {
    polls: [[Counter; 3]; 3],
    duration: Histogram,
    claimed: Histogram,
    /// What is looked for now: an error is counted for it.
    now: Look,
}

impl PollMeter {
    pub(crate) fn new() -> Self {
        Self {
            polls: LOOKS.map(|source| RESULTS.map(|result| counter(&POLLS, &[source, result]))),
            duration: histogram(&POLL_DURATION, &[]),
            claimed: histogram(&POLL_CLAIMED_ROWS, &[]),
            now: Look::Duties,
        }
    }

    /// A look begins.
    pub(crate) fn begin(&mut self, look: Look) {
        self.now = look;
    }

    /// It has brought so many rows.
    pub(crate) fn found(&self, rows: usize) {
        self.polls[self.now as usize][usize::from(rows == 0)].increment(1);
        if self.now == Look::Runs {
            self.claimed.record(rows as f64);
        }
    }

    /// It has failed.
    pub(crate) fn failed(&self) {
        self.polls[self.now as usize][2].increment(1);
    }

    /// A round of looks has taken so long.
    pub(crate) fn took(&self, took: Duration) {
        self.duration.record(took.as_secs_f64());
    }
}

/// What wakes pollers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Waker {
    /// Somebody inserted and said so.
    Notify,
    /// A hint of the heartbeat.
    Heartbeat,
    /// A due time that was known.
    Timer,
}

/// Something wakes the poller.
pub(crate) fn woken(by: Waker) {
    let source = match by {
        Waker::Notify => "notify",
        Waker::Heartbeat => "heartbeat",
        Waker::Timer => "timer",
    };
    count(&WAKEUPS, &[source], 1);
}

/// A statement of the engine failed.
pub(crate) fn db_error(error: &sqlx::Error) {
    let code = error.as_database_error().and_then(|error| error.code());
    let class = code.as_deref().and_then(|code| code.get(..2)).unwrap_or("io");
    count(&DB_ERRORS, &[class], 1);
}

/// Fire times of a schedule were decided on.
pub(crate) fn fired(schedule: &str, result: &str, times: u64) {
    static KNOWN: Names = Names::new();
    count(&SCHEDULE_FIRES, &[KNOWN.or_other(schedule), result], times);
}

/// Rows of a watched table moved on (`normal`), were given up (`failed`), or will be tried again (`retried`).
pub(crate) fn watch_rows(watch: &str, status: &str, rows: u64) {
    count(&WATCH_ROWS, &[WATCHES.or_other(watch), status], rows);
}

/// A look at a watched table took so long.
pub(crate) fn watch_poll(watch: &str, took: Duration) {
    record(&WATCH_POLL_DURATION, &[WATCHES.or_other(watch)], took.as_secs_f64());
}

/// A handler was called about rows of a step, and has returned or was dropped. Steps come and go with edits: a thousand
/// of all watches have series of their own.
pub(crate) fn watch_called(watch: &str, step: &str, took: Duration) {
    static STEPS: Names = Names::new();
    let of = [watch, step];
    let is_known = STEPS.or_other(&of.join("\0")) != OTHER;
    record(&WATCH_HANDLER_DURATION, if is_known { &of } else { &[OTHER, OTHER] }, took.as_secs_f64());
}

static WATCHES: Names = Names::new();

/// The first thousand names; series are never given back, so names are not either.
#[derive(Debug)]
struct Names(Mutex<Option<HashSet<String>>>);

impl Names {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn or_other<'a>(&self, name: &'a str) -> &'a str {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        if known.contains(name) {
            return name;
        }
        if known.len() >= NAMES_MAX {
            return OTHER;
        }
        known.insert(name.to_owned());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_names_are_kept_apart() {
        let names = Names::new();
        for n in 0..NAMES_MAX {
            let name = format!("n{n}");
            assert_eq!(names.or_other(&name), name);
        }
        assert_eq!(names.or_other("one more"), OTHER);
        assert_eq!(names.or_other("n7"), "n7");
    }
}

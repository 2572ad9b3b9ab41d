//! The state machine of a run: what may follow what, and what an event makes of an attempt.
//!
//! Pure: no clock, no database. The table is [`allowed`]; a guard trigger generated from it watches every
//! status change in the tests.
//!
//! ```
//! use watchbell::Status;
//! use watchbell::retry::RetryPolicy;
//! use watchbell::run::transition::{CRASHES_MAX, Event, MESSAGE_BYTES_MAX, Standing, Verdict, allowed, decide};
//!
//! let retry = RetryPolicy::default();
//! let first = Standing { id: 7, attempt: 1, max_attempts: 3, crashes: 0 };
//! let failed = || Event::Failed { kind: "error", message: "no".repeat(MESSAGE_BYTES_MAX), after: None };
//! let Verdict { status, delay, error, .. } = decide(first, failed(), &retry);
//! assert!(status == Status::Pending && delay.is_some()); // another attempt, after the policy's delay
//! assert!(error.is_some_and(|(_, message)| message.len() == MESSAGE_BYTES_MAX));
//!
//! let last = Standing { attempt: 3, ..first };
//! assert_eq!(decide(last, failed(), &retry).status, Status::Failed);
//! let crashed = Standing { crashes: CRASHES_MAX - 1, ..first };
//! assert_eq!(decide(crashed, Event::WorkerLost, &retry).status, Status::Failed); // whatever is left
//! assert!(allowed(Status::Running, Status::Pending) && !allowed(Status::Failed, Status::Pending));
//! ```

use std::time::Duration;

use super::Status;
use crate::retry::RetryPolicy;

/// A run that took its worker down this often is failed, whatever attempts it has left.
pub const CRASHES_MAX: i16 = 3;

/// Longest error message that is kept, in bytes; the rest is cut.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// Longest delay before another attempt, a hundred years: times much later do not fit into the database, which would
/// refuse the verdict each time it is sent.
const DELAY_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Whether a run may go from one status to another.
pub const fn allowed(from: Status, to: Status) -> bool {
    match (from, to) {
        // claim; cancel before it started
        (Status::Pending, Status::Running | Status::Cancelled) => true,
        // retry, snooze, give back, rescue; finish
        (Status::Running, Status::Pending | Status::Normal | Status::Failed | Status::Cancelled) => true,
        // terminal is final
        _ => false,
    }
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handler ended well.
    Succeeded,
    /// The handler failed; `after` overrides the retry policy's delay.
    Failed {
        /// What kind of failure: `error`, `timeout` or `panic`.
        kind: &'static str,
        /// The reason, for people.
        message: String,
        /// Wait this long before the next attempt.
        after: Option<Duration>,
    },
    /// The handler failed and another attempt would not help.
    Fatal {
        /// The reason, for people.
        message: String,
    },
    /// The handler wants to be called again later, without using up an attempt.
    Snoozed {
        /// How much later.
        by: Duration,
    },
    /// Someone asked for it to be cancelled, or the handler itself did.
    Cancelled {
        /// The reason given.
        reason: String,
    },
    /// Its start deadline passed before it started.
    Expired,
    /// Claimed but never started; somebody else may have it.
    GivenBack,
    /// Started, and stopped because its worker shuts down.
    Interrupted,
    /// Its worker died.
    WorkerLost,
}

/// The part of a run that decides what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Identifies the run; seeds the jitter of its retry delay.
    pub id: i64,
    /// The number of this attempt, from 1.
    pub attempt: i32,
    /// How many attempts it has in all.
    pub max_attempts: i16,
    /// How often it took its worker down.
    pub crashes: i16,
}

/// What is to be written about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The status that follows.
    pub status: Status,
    /// For `pending`: when it may run again, counted from the database's now. `None` keeps its `run_at`.
    pub delay: Option<Duration>,
    /// The attempt never started (or was snoozed), so its number is used again.
    pub unstarted: bool,
    /// Counts as a crash.
    pub crashed: bool,
    /// Kind and message for `run_errors` and `runs.error`.
    pub error: Option<(&'static str, String)>,
}

impl Verdict {
    fn end(status: Status, error: Option<(&'static str, String)>) -> Self {
        Self { status, delay: None, unstarted: false, crashed: false, error }
    }

    fn again(delay: Option<Duration>, error: Option<(&'static str, String)>) -> Self {
        let delay = delay.map(|delay| delay.min(DELAY_MAX));
        Self { status: Status::Pending, delay, unstarted: false, crashed: false, error }
    }
}

/// What follows when `event` happens to a running run.
pub fn decide(standing: Standing, event: Event, retry: &RetryPolicy) -> Verdict {
    let attempts_left = standing.attempt < i32::from(standing.max_attempts);
    match event {
        Event::Succeeded => Verdict::end(Status::Normal, None),
        Event::Failed { kind, message, after } if attempts_left => {
            Verdict::again(Some(after.unwrap_or_else(|| retry_delay(standing, retry))), Some((kind, cut(message))))
        }
        Event::Failed { kind, message, .. } => Verdict::end(Status::Failed, Some((kind, cut(message)))),
        Event::Fatal { message } => Verdict::end(Status::Failed, Some(("fatal", cut(message)))),
        Event::Snoozed { by } => Verdict { unstarted: true, ..Verdict::again(Some(by), None) },
        Event::Cancelled { reason } => Verdict::end(Status::Cancelled, Some(("cancelled", cut(reason)))),
        Event::Expired => Verdict {
            unstarted: true,
            ..Verdict::end(Status::Cancelled, Some(("expired", "start deadline passed before it started".into())))
        },
        Event::GivenBack => Verdict { unstarted: true, ..Verdict::again(None, None) },
        Event::Interrupted if attempts_left => {
            Verdict::again(None, Some(("interrupted", "stopped because its worker shut down".into())))
        }
        Event::Interrupted => Verdict::end(
            Status::Failed,
            Some(("interrupted", "stopped because its worker shut down, on its last attempt".into())),
        ),
        Event::WorkerLost => lost(standing, attempts_left),
    }
}

/// A lost worker counts: `max_attempts = 1` never starts twice, and three crashes are enough.
fn lost(standing: Standing, attempts_left: bool) -> Verdict {
    let crashes = standing.crashes + 1;
    let mut verdict = if attempts_left && crashes < CRASHES_MAX {
        Verdict::again(None, Some(("crashed", "its worker died".into())))
    } else if attempts_left {
        Verdict::end(Status::Failed, Some(("crashed", format!("its worker died, {crashes} times now"))))
    } else {
        Verdict::end(Status::Failed, Some(("crashed", "its worker died, on its last attempt".into())))
    };
    verdict.crashed = true;
    verdict
}

fn retry_delay(standing: Standing, retry: &RetryPolicy) -> Duration {
    let attempt = u32::try_from(standing.attempt).unwrap_or(1);
    retry.delay(attempt, standing.id.unsigned_abs()).to_std().unwrap_or_default()
}

/// Cuts a message at a character's edge, and drops NUL, which PostgreSQL's text cannot hold.
fn cut(message: String) -> String {
    let mut message = if message.contains('\0') { message.replace('\0', "\u{fffd}") } else { message };
    if message.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|&i| message.is_char_boundary(i)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(attempt: i32, max_attempts: i16, crashes: i16) -> Standing {
        Standing { id: 7, attempt, max_attempts, crashes }
    }

    fn every_event() -> Vec<Event> {
        let second = Duration::from_secs(1);
        vec![
            Event::Succeeded,
            Event::Failed { kind: "error", message: "no".into(), after: None },
            Event::Fatal { message: "never".into() },
            Event::Snoozed { by: second },
            Event::Cancelled { reason: "asked".into() },
            Event::Expired,
            Event::GivenBack,
            Event::Interrupted,
            Event::WorkerLost,
        ]
    }

    #[test]
    fn terminal_is_final() {
        for from in Status::ALL.into_iter().filter(|s| s.is_terminal()) {
            for to in Status::ALL {
                assert!(!allowed(from, to), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn the_table_pair_by_pair() {
        let pairs: Vec<_> = Status::ALL
            .into_iter()
            .flat_map(|from| Status::ALL.into_iter().map(move |to| (from, to)))
            .filter(|&(from, to)| allowed(from, to))
            .map(|(from, to)| format!("{from} -> {to}"))
            .collect();
        assert_eq!(
            pairs,
            [
                "pending -> running",
                "pending -> cancelled",
                "running -> pending",
                "running -> normal",
                "running -> failed",
                "running -> cancelled"
            ]
        );
    }

    #[test]
    fn every_event_leads_where_the_table_allows() {
        for attempt in 1..=4 {
            for crashes in 0..=3 {
                for event in every_event() {
                    let verdict = decide(standing(attempt, 3, crashes), event.clone(), &RetryPolicy::default());
                    assert!(allowed(Status::Running, verdict.status), "{event:?} at {attempt}, {crashes}");
                    assert_eq!(verdict.crashed, event == Event::WorkerLost);
                }
            }
        }
    }

    #[test]
    fn one_attempt_never_starts_twice() {
        for event in [Event::WorkerLost, Event::Interrupted] {
            assert_eq!(decide(standing(1, 1, 0), event, &RetryPolicy::default()).status, Status::Failed);
        }
    }

    #[test]
    fn the_third_crash_fails_a_run_with_attempts_left() {
        let status = |crashes| decide(standing(1, 100, crashes), Event::WorkerLost, &RetryPolicy::default()).status;
        assert_eq!([status(0), status(1), status(2)], [Status::Pending, Status::Pending, Status::Failed]);
    }

    #[test]
    fn a_snooze_and_a_give_back_reuse_the_number() {
        for event in [Event::Snoozed { by: Duration::from_secs(1) }, Event::GivenBack] {
            let verdict = decide(standing(3, 3, 0), event, &RetryPolicy::default());
            assert_eq!((verdict.status, verdict.unstarted), (Status::Pending, true));
        }
    }

    #[test]
    fn a_delay_is_one_that_the_database_can_add_to_its_time() {
        let failed = |after| Event::Failed { kind: "error", message: String::new(), after: Some(after) };
        for event in [Event::Snoozed { by: Duration::MAX }, failed(Duration::MAX), failed(Duration::from_secs(1 << 40))]
        {
            assert_eq!(decide(standing(1, 3, 0), event, &RetryPolicy::default()).delay, Some(DELAY_MAX));
        }
    }

    #[test]
    fn a_message_is_cut_at_a_character_and_holds_no_nul() {
        let verdict = decide(standing(1, 1, 0), Event::Fatal { message: "é\0".repeat(3000) }, &RetryPolicy::default());
        let (_, message) = verdict.error.expect("a message");
        assert!(message.len() <= MESSAGE_BYTES_MAX && !message.contains('\0'));
    }
}

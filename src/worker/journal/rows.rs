//! The journal of watched rows: as of runs, one event for each change of a row, after the database has accepted it.
//!
//! A table of a million rows can fail as a whole within seconds, so of each event only so many are told in a second for
//! one step; the others of that second are told in one line with their number.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{self, Instant};
use tracing::{Level, enabled, event};

use super::{super::shared::locked, Kind, kind};
use crate::{
    handler::shown_key,
    lifecycle::{
        claim::Claimed, finish::Finished, leased::RowClaim, transact::Worked, watch_crashed::Charged,
        watch_failed::Failure,
    },
    run::transition::Verdict,
    watch::Planned,
};

/// Events of one kind that are told of one step within [`PERIOD`].
const TOLD_MAX: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// What an event tells of a row, or of several.
#[derive(Debug, Clone)]
struct Change {
    watch: String,
    step: String,
    handler: Option<String>,
    worker: Option<i32>,
    /// Of one row; `None` in a line about several.
    key: Option<String>,
    attempt: Option<i32>,
    /// How many rows, in a line about several.
    rows: Option<u64>,
    again_in: Option<Duration>,
    error: Option<(&'static str, String)>,
}

/// What was told of one kind of event of one step within a second.
#[derive(Debug)]
struct Told {
    began: Instant,
    lines: u32,
    /// The first one that was not told, and how many there are.
    rest: Option<(Change, u64)>,
}

type Line = (Kind, String, String);

/// Tells what becomes of watched rows.
#[derive(Debug, Clone, Default)]
pub(in crate::worker) struct RowJournal {
    told: Arc<Mutex<HashMap<Line, Told>>>,
}

impl RowJournal {
    /// A handler in leased mode is about to be called.
    pub(in crate::worker) fn started(run: &Claimed, row: &RowClaim) {
        event!(
            target: "watchbell::watch",
            Level::DEBUG,
            watch = row.plan.watch.name,
            step = row.planned().step.from,
            key = shown_key(row.key()),
            handler = run.handler,
            attempt = run.attempt,
            worker = run.claimed_by,
            "row started"
        );
    }

    /// Its owner had moved or deleted a row in leased mode: only its claim has ended.
    pub(in crate::worker) fn left(row: &RowClaim, worker: i32) {
        let (watch, step, key) = (&row.plan.watch.name, &row.planned().step.from, shown_key(row.key()));
        let attempt = row.standing.attempt;
        let said = "row moved or deleted by somebody else, and left so";
        event!(target: "watchbell::watch", Level::INFO, watch, step, key, attempt, worker, "{said}");
    }

    /// The end of a row in leased mode came late.
    pub(in crate::worker) fn refused(row: &RowClaim, worker: i32) {
        let (watch, step, key) = (&row.plan.watch.name, &row.planned().step.from, shown_key(row.key()));
        let attempt = row.standing.attempt;
        let said = "row's end refused: another worker has it";
        event!(target: "watchbell::watch", Level::WARN, watch, step, key, attempt, worker, "{said}");
    }

    /// The database has accepted what became of a row in leased mode.
    pub(in crate::worker) fn ended(&self, row: &RowClaim, finished: &Finished) {
        let verdict = &finished.verdict;
        let kind = kind(verdict);
        if !is_heard(kind) {
            return;
        }
        let change = Change {
            worker: Some(finished.claimed_by),
            key: Some(shown_key(row.key())),
            attempt: Some(row.standing.attempt),
            again_in: verdict.delay,
            error: verdict.error.clone(),
            ..Change::of(&row.plan.watch.name, row.planned())
        };
        self.tell(kind, change);
    }

    /// A batch in transactional mode is committed.
    pub(in crate::worker) fn worked(&self, watch: &str, planned: &Planned, worker: i32, worked: &Worked) {
        if worked.done > 0 && is_heard(Kind::Finished) {
            let rows = Some(worked.done.unsigned_abs());
            let change = Change { worker: Some(worker), rows, ..Change::of(watch, planned) };
            tell(Kind::Finished, &change);
        }
        for failure in &worked.failures {
            self.failed(watch, planned, worker, failure);
        }
    }

    fn failed(&self, watch: &str, planned: &Planned, worker: i32, failure: &Failure) {
        let kind = if failure.is_barred() { Kind::Barred } else { kind(&failure.verdict()) };
        if !is_heard(kind) {
            return;
        }
        let Verdict { delay, error, .. } = failure.verdict();
        let change = Change {
            worker: Some(worker),
            key: Some(failure.key.to_string()),
            attempt: Some(failure.attempt),
            again_in: delay,
            error,
            ..Change::of(watch, planned)
        };
        self.tell(kind, change);
    }

    /// A row in leased mode whose end its table refuses, whatever it says: it is sent again and again.
    pub(in crate::worker) fn barred(&self, row: &RowClaim, finished: &Finished, error: &sqlx::Error) {
        let said = finished.verdict.error.as_ref().map(|(_, message)| format!("{message}; ")).unwrap_or_default();
        let change = Change {
            worker: Some(finished.claimed_by),
            key: Some(shown_key(row.key())),
            attempt: Some(row.standing.attempt),
            error: Some(("error", format!("{said}{}", crate::error::said(error)))),
            ..Change::of(&row.plan.watch.name, row.planned())
        };
        self.tell(Kind::Barred, change);
    }

    /// A row was in a batch of a worker that died.
    pub(in crate::worker) fn charged(&self, charged: &Charged) {
        let change = Change {
            watch: charged.watch.clone(),
            step: charged.step.clone(),
            handler: None,
            worker: None,
            key: Some(charged.key.to_string()),
            attempt: None,
            rows: None,
            again_in: None,
            error: Some(("crashed", format!("its worker died, for the {} time", nth(charged.crashes)))),
        };
        self.tell(Kind::Rescued, change);
    }

    /// Tells it, or counts it where too many were told this second. At `debug` all is told.
    fn tell(&self, kind: Kind, change: Change) {
        if matches!(kind, Kind::Finished | Kind::GivenBack | Kind::Snoozed) {
            return tell(kind, &change);
        }
        let line: Line = (kind, change.watch.clone(), change.step.clone());
        let now = Instant::now();
        let mut told = locked(&self.told);
        let (is_told, earlier) = match told.get_mut(&line) {
            Some(told) if told.began + PERIOD > now => {
                let is_told = told.lines < TOLD_MAX;
                told.lines += u32::from(is_told);
                match &mut told.rest {
                    _ if is_told => {}
                    Some((_, rows)) => *rows += 1,
                    rest => {
                        *rest = Some((change.clone(), 1));
                        self.tell_rest_at(line, told.began);
                    }
                }
                (is_told, None)
            }
            _ => (true, told.insert(line, Told { began: now, lines: 1, rest: None })),
        };
        told.retain(|_, told| told.began + PERIOD > now || told.rest.is_some());
        drop(told);
        tell_rest(kind, earlier);
        if is_told {
            tell(kind, &change);
        }
    }

    /// Tells what was only counted when its second is over, if no later event does.
    fn tell_rest_at(&self, line: Line, began: Instant) {
        let told = Arc::clone(&self.told);
        tokio::spawn(async move {
            time::sleep_until(began + PERIOD).await;
            let kind = line.0;
            let mut told = locked(&told);
            let is_same = told.get(&line).is_some_and(|told| told.began == began);
            let rest = if is_same { told.remove(&line) } else { None };
            drop(told);
            tell_rest(kind, rest);
        });
    }
}

impl Change {
    fn of(watch: &str, planned: &Planned) -> Self {
        Self {
            watch: watch.to_owned(),
            step: planned.step.from.clone(),
            handler: Some(planned.step.handler.clone()),
            worker: None,
            key: None,
            attempt: None,
            rows: None,
            again_in: None,
            error: None,
        }
    }
}

fn nth(n: i16) -> String {
    match n {
        1 => "first".to_owned(),
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        n => format!("{n}th"),
    }
}

fn is_heard(kind: Kind) -> bool {
    match kind {
        Kind::Failed | Kind::Barred => enabled!(target: "watchbell::watch", Level::ERROR),
        Kind::Rescued | Kind::Expired => enabled!(target: "watchbell::watch", Level::WARN),
        Kind::Retried | Kind::Interrupted | Kind::Cancelled => enabled!(target: "watchbell::watch", Level::INFO),
        Kind::Finished | Kind::Snoozed | Kind::GivenBack => enabled!(target: "watchbell::watch", Level::DEBUG),
    }
}

fn tell_rest(kind: Kind, told: Option<Told>) {
    if let Some((change, rows)) = told.and_then(|told| told.rest) {
        tell(kind, &Change { key: None, attempt: None, again_in: None, rows: Some(rows), ..change });
    }
}

macro_rules! tell_row {
    ($level:ident, $change:ident, $message:literal) => {
        event!(
            target: "watchbell::watch",
            Level::$level,
            watch = $change.watch,
            step = $change.step,
            key = $change.key.as_deref(),
            rows = $change.rows,
            handler = $change.handler.as_deref(),
            attempt = $change.attempt,
            worker = $change.worker,
            again_in_ms = $change.again_in.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            kind = $change.error.as_ref().map(|(kind, _)| *kind),
            error = $change.error.as_ref().map(|(_, message)| message.as_str()),
            $message
        )
    };
}

fn tell(kind: Kind, change: &Change) {
    match kind {
        Kind::Finished => tell_row!(DEBUG, change, "row finished"),
        Kind::GivenBack => tell_row!(DEBUG, change, "row given back"),
        Kind::Snoozed => tell_row!(DEBUG, change, "row snoozed"),
        Kind::Interrupted => tell_row!(INFO, change, "row interrupted"),
        Kind::Retried => tell_row!(INFO, change, "row failed and is tried again"),
        Kind::Cancelled | Kind::Expired => tell_row!(INFO, change, "row cancelled"),
        Kind::Rescued => tell_row!(WARN, change, "row taken back"),
        Kind::Failed => tell_row!(ERROR, change, "row failed"),
        Kind::Barred => tell_row!(ERROR, change, "row refused by its table"),
    }
}

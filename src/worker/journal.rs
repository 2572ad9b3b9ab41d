//! The journal: one event of the log for each change of state, after the database has accepted it.
//!
//! Levels, from an operator's chair: `error` wants a person, `warn` tells of a loss that was made good, `info` of
//! what is seldom and worth knowing, `debug` of each run. The targets `watchbell::run`, `watchbell::schedule` and
//! `watchbell::watch` are for filters. An event whose level is off costs a comparison, and nothing is kept for it.

mod rows;

use std::time::Duration;

use tracing::{Level, enabled, event};

pub(super) use self::rows::RowJournal;
use super::observer::Open;
use crate::{
    lifecycle::{claim::Claimed, finish::Finished, fire::Acted, rescue::Orphan},
    run::{Status, transition::Verdict},
};

/// What an event tells of a run.
struct Change<'a> {
    run: i64,
    schedule: Option<&'a str>,
    handler: &'a str,
    queue: &'a str,
    attempt: i32,
    worker: i32,
    took: Option<Duration>,
    verdict: &'a Verdict,
}

/// What becomes of an attempt, as the log tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Finished,
    GivenBack,
    Snoozed,
    Interrupted,
    Retried,
    Cancelled,
    Expired,
    Rescued,
    Failed,
    /// A row that is to be given up, which its table refuses.
    Barred,
}

fn kind(verdict: &Verdict) -> Kind {
    let cause = verdict.error.as_ref().map(|(cause, _)| *cause);
    match (verdict.status, cause) {
        (Status::Failed, _) => Kind::Failed,
        (Status::Cancelled, Some("expired")) => Kind::Expired,
        (Status::Cancelled, _) => Kind::Cancelled,
        (Status::Pending, Some("crashed")) => Kind::Rescued,
        (Status::Pending, Some("interrupted")) => Kind::Interrupted,
        (Status::Pending, Some(_)) => Kind::Retried,
        (Status::Pending, None) if verdict.delay.is_some() => Kind::Snoozed,
        (Status::Pending, None) => Kind::GivenBack,
        (Status::Normal | Status::Running, _) => Kind::Finished,
    }
}

/// Whether the event for this verdict is heard at all.
pub(super) fn hears(verdict: &Verdict) -> bool {
    match kind(verdict) {
        Kind::Failed | Kind::Barred => enabled!(target: "watchbell::run", Level::ERROR),
        Kind::Rescued | Kind::Expired => enabled!(target: "watchbell::run", Level::WARN),
        Kind::Retried | Kind::Interrupted | Kind::Cancelled => enabled!(target: "watchbell::run", Level::INFO),
        Kind::Finished | Kind::Snoozed | Kind::GivenBack => enabled!(target: "watchbell::run", Level::DEBUG),
    }
}

macro_rules! tell {
    ($level:ident, $change:ident, $message:literal) => {
        event!(
            target: "watchbell::run",
            Level::$level,
            run = $change.run,
            schedule = $change.schedule,
            handler = $change.handler,
            queue = $change.queue,
            attempt = $change.attempt,
            worker = $change.worker,
            status = $change.verdict.status.as_str(),
            duration_ms = $change.took.map(|took| took.as_micros() as f64 / 1000.0),
            again_in_ms = $change.verdict.delay.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            kind = $change.verdict.error.as_ref().map(|(kind, _)| *kind),
            error = $change.verdict.error.as_ref().map(|(_, message)| message.as_str()),
            $message
        )
    };
}

fn changed(change: &Change<'_>) {
    match kind(change.verdict) {
        Kind::Finished => tell!(DEBUG, change, "run finished"),
        Kind::GivenBack => tell!(DEBUG, change, "run given back"),
        Kind::Snoozed => tell!(DEBUG, change, "run snoozed"),
        Kind::Interrupted => tell!(INFO, change, "run interrupted"),
        Kind::Retried => tell!(INFO, change, "run failed and is tried again"),
        Kind::Cancelled => tell!(INFO, change, "run cancelled"),
        Kind::Expired => tell!(WARN, change, "run expired"),
        Kind::Rescued => tell!(WARN, change, "run taken back"),
        Kind::Failed | Kind::Barred => tell!(ERROR, change, "run failed"),
    }
}

/// A handler is about to be called.
pub(super) fn started(run: &Claimed) {
    event!(
        target: "watchbell::run",
        Level::DEBUG,
        run = run.id,
        schedule = run.schedule_name,
        handler = run.handler,
        queue = run.queue,
        attempt = run.attempt,
        worker = run.claimed_by,
        status = "running",
        "run started"
    );
}

/// The database has accepted what became of an attempt of this worker.
pub(super) fn ended(open: &Open, finished: &Finished) {
    let event = &open.event;
    changed(&Change {
        run: finished.id,
        schedule: event.schedule.as_deref(),
        handler: &event.handler,
        queue: &event.queue,
        attempt: event.attempt,
        worker: finished.claimed_by,
        took: (!event.took.is_zero()).then_some(event.took),
        verdict: &finished.verdict,
    });
}

/// A transactional handler's own transaction has ended the run, or was refused.
pub(super) fn recorded(run: &Claimed, accepted: bool, took: Duration) {
    if !accepted {
        tracing::warn!(
            target: "watchbell::run",
            run = run.id,
            handler = run.handler,
            attempt = run.attempt,
            worker = run.claimed_by,
            "superseded: another worker has the run, and the handler's writes were rolled back"
        );
        return;
    }
    let verdict = Verdict { status: Status::Normal, delay: None, unstarted: false, crashed: false, error: None };
    changed(&Change {
        run: run.id,
        schedule: run.schedule_name.as_deref(),
        handler: &run.handler,
        queue: &run.queue,
        attempt: run.attempt,
        worker: run.claimed_by,
        took: Some(took),
        verdict: &verdict,
    });
}

/// A run of a dead worker, or one whose claim got lost on the way, is where its verdict says.
pub(super) fn salvaged(orphan: &Orphan) {
    changed(&Change {
        run: orphan.finished.id,
        schedule: orphan.schedule.as_deref(),
        handler: &orphan.handler,
        queue: &orphan.queue,
        attempt: orphan.attempt,
        worker: orphan.finished.claimed_by,
        took: None,
        verdict: &orphan.finished.verdict,
    });
}

/// A schedule has failed so often in a row that it fires no more.
pub(super) fn paused(worker: i32, schedules: &[(String, i32)]) {
    for (schedule, failures) in schedules {
        tracing::error!(target: "watchbell::schedule", schedule, failures, worker, "schedule paused by its failures");
    }
}

/// A schedule cannot be planned.
pub(super) fn invalid(worker: i32, schedule: &str, error: &str) {
    tracing::error!(target: "watchbell::schedule", schedule, worker, error, "schedule invalid");
}

/// A watch is invalid now, or no longer.
pub(super) fn watch_turned(worker: i32, watch: &str, error: Option<&str>) {
    match error {
        Some(error) => tracing::error!(target: "watchbell::watch", watch, worker, error, "watch invalid"),
        None => tracing::info!(target: "watchbell::watch", watch, worker, "watch valid again"),
    }
}

/// What is known of a watch or its table could not be read, which says nothing about the watch.
pub(super) fn watch_not_planned(worker: i32, watch: &str, error: &str) {
    tracing::warn!(target: "watchbell::watch", watch, worker, error, "watch could not be planned; trying again");
}

/// Now it could.
pub(super) fn watch_planned(worker: i32, watch: &str) {
    tracing::info!(target: "watchbell::watch", watch, worker, "watch could be planned again");
}

/// The database refused a look at the rows of a step.
pub(super) fn step_not_worked(worker: i32, (watch, step): (&str, &str), error: &str) {
    tracing::warn!(target: "watchbell::watch", watch, step, worker, error, "rows could not be worked; trying again");
}

/// It refuses none any more.
pub(super) fn step_worked(worker: i32, (watch, step): (&str, &str)) {
    tracing::info!(target: "watchbell::watch", watch, step, worker, "rows can be worked again");
}

/// Others can work this watch, or some step of it, and this worker cannot.
pub(super) fn watch_unable(worker: i32, watch: &str, error: &str) {
    tracing::warn!(target: "watchbell::watch", watch, worker, error, "watch cannot be worked by this worker");
}

macro_rules! tell_fire {
    ($level:ident, $fire:ident, $worker:ident, $message:literal) => {
        event!(
            target: "watchbell::schedule",
            Level::$level,
            schedule = $fire.schedule,
            fire_at = %$fire.fire_at.to_rfc3339(),
            disposition = $fire.disposition,
            until = $fire.until.map(|until| tracing::field::display(until.to_rfc3339())),
            missed = ($fire.missed > 0).then_some($fire.missed),
            worker = $worker,
            $message
        )
    };
}

/// What became of fire times.
pub(super) fn fired(worker: i32, fires: &[Acted]) {
    for fire in fires {
        match fire.disposition {
            "skipped_overlap" => tell_fire!(DEBUG, fire, worker, "schedule skipped: earlier runs are open"),
            _ if fire.is_loss() => tell_fire!(INFO, fire, worker, "schedule missed fire times"),
            _ => tell_fire!(DEBUG, fire, worker, "schedule fired"),
        }
    }
}

//! What the task of a step works with, whatever its mode.

use std::{sync::Arc, time::Duration};

use sqlx::AssertSqlSafe;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::{
    super::{journal, quiet::Bell, row_event::Failed, session::within},
    PLAN_MAX, Site,
    doze::{self, Doze},
};
use crate::{
    error::said,
    lifecycle::{transact::Worked, watch_plan, watch_rate},
    metrics,
    watch::{Plan, Planned},
};

/// Pause after a look that brought something but not all that was asked for; it doubles up to the poll interval.
const SOON: Duration = Duration::from_millis(20);
/// After an error; doubles.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// Failed looks in a row for which a worker that works `once` waits.
const HOPELESS: u32 = 5;
/// Looks that went well for so long mean that what was wrong is over: a filter may fail at some rows only.
const SETTLED: Duration = Duration::from_secs(10);
/// A step that is woken rests for so many times as long as its last look took, if that was in vain: without an index a
/// look reads the whole table.
const WOKEN_SHARE: u32 = 3;
/// A rest as long as this is worth a wish to be woken.
const DOZE_FROM: Duration = Duration::from_millis(100);

/// One step of a watch in this worker.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) all: Arc<Site>,
    pub(super) plan: Arc<Plan>,
    pub(super) step: usize,
    /// It takes nothing more.
    pub(super) end: CancellationToken,
    /// Wakes each step of the watch: a row may have come.
    pub(super) bells: Arc<[Bell]>,
    /// Asks those who change the table to do so too.
    pub(super) doze: Arc<Doze>,
}

impl Step {
    pub(super) fn planned(&self) -> &Planned {
        &self.plan.steps[self.step]
    }

    /// Rows of this step ended: wakes the steps that begin where it leads.
    pub(super) fn lead_on(&self) {
        let own = &self.planned().step;
        let next = self.plan.steps.iter().zip(&*self.bells);
        let next = next.filter(|(other, _)| [&own.to, &own.error].contains(&&other.step.from));
        next.for_each(|(_, bell)| bell.wake.notify_one());
    }

    /// Writes into the log, the totals and the metrics what became of rows, and tells the hooks.
    pub(super) fn tell(&self, worker: i32, worked: &Worked) {
        let (all, watch, planned) = (&self.all, &self.plan.watch, self.planned());
        all.shared.row_journal.worked(&watch.name, planned, worker, worked);
        all.tally.add(watch.id, &planned.step.from, (worked.done, worked.failed, worked.retried));
        for (status, rows) in [("normal", worked.done), ("failed", worked.failed), ("retried", worked.retried)] {
            metrics::watch_rows(&watch.name, status, rows.try_into().unwrap_or(0));
        }
        for failure in &worked.failures {
            if let Some(error) = failure.message() {
                let (key, attempt, again_in) = (&failure.key.0, failure.attempt, failure.again_in());
                let row = Failed { key, attempt, error, again_in };
                all.shared.observer.row_failed(|| row.event(&self.plan, planned));
            }
        }
    }

    /// A look that began after so many ends of work brought nothing that may start now.
    pub(super) fn looked_in_vain(&self, ends: u64) {
        self.all.shared.looked_in_vain(&self.bells[self.step], ends);
    }

    /// The rate lets no row start now: a worker that works `once` waits for that as long as there is a row.
    pub(super) async fn delayed_by_rate(&self, ends: u64) {
        if self.all.shared.config.once && matches!(self.has_row().await, Ok(false)) {
            self.looked_in_vain(ends);
        }
    }

    /// Whether there is a row that could be taken; none is.
    async fn has_row(&self) -> sqlx::Result<bool> {
        let take = self.planned().statements.take_keys(&1, false);
        let mut look = self.all.own.begin().await?;
        let found = sqlx::query(AssertSqlSafe(take)).persistent(false).fetch_optional(&mut *look).await?;
        look.rollback().await?;
        Ok(found.is_some())
    }

    /// How many rows may start now, up to `want`. Without a rate, all of them.
    pub(super) async fn allowed(&self, want: i64) -> sqlx::Result<Result<i64, Duration>> {
        let step = &self.planned().step;
        match step.rate {
            None => Ok(Ok(want)),
            Some(rate) => {
                let allowed = watch_rate::allow(&self.all.own, self.plan.watch.id, &step.from, rate, want);
                within(PLAN_MAX, allowed).await
            }
        }
    }

    /// Of those that were allowed these did not start. Where that cannot be written they are lost to the rate.
    pub(super) async fn give_back(&self, unused: i64) {
        let (watch, step) = (&self.plan.watch, &self.planned().step);
        if step.rate.is_none() || unused < 1 {
            return;
        }
        let given = within(PLAN_MAX, watch_rate::give_back(&self.all.own, watch.id, &step.from, unused));
        if let Err(error) = given.await {
            tracing::debug!(watch = watch.name, step = step.from, %error, "what the rate allowed could not be given back");
        }
    }

    /// Says that something went wrong, once, and whether the table is to be looked up again.
    pub(super) async fn complain(&self, error: &sqlx::Error) {
        let said = said(error);
        let (watch, from) = (&self.plan.watch, &self.planned().step.from);
        if self.all.complaints.is_news(watch.id, from, &said, Instant::now()) {
            journal::step_not_worked(self.all.shared.worker(), (&watch.name, from), &said);
        }
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if code.is_some_and(|code| code.starts_with("42") || code.starts_with("3F") || code.starts_with("22")) {
            self.replan().await;
        }
    }

    /// A look went well. Says so if others had not.
    pub(super) fn content(&self) {
        let (watch, from) = (&self.plan.watch, &self.planned().step.from);
        if self.all.complaints.is_over(watch.id, from, SETTLED, Instant::now()) {
            journal::step_worked(self.all.shared.worker(), (&watch.name, from));
        }
    }

    /// The watch is not what it was when it was planned.
    pub(super) async fn replan(&self) {
        let replanned = async { watch_plan::replan(&mut *self.all.own.acquire().await?, self.plan.watch.id).await };
        if let Err(error) = within(PLAN_MAX, replanned).await {
            tracing::debug!(watch = self.plan.watch.name, %error, "it could not be marked for planning");
        }
    }
}

/// Whether the database is there and says no.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| !code.starts_with("57P") && !code.starts_with("08"))
}

/// How long a step rests: little while rows come, up to its poll interval while none do.
#[derive(Debug)]
pub(super) struct Rest {
    longest: Duration,
    pause: Duration,
    /// However often it is woken, it rests so long after a look in vain: some multiple of what that took.
    least: Duration,
    failures: u32,
    /// The last look brought nothing, so that a row that comes is news.
    idle: bool,
    /// How often the wish to be woken had begun to be heard when this step last looked.
    heard: u64,
}

impl Rest {
    pub(super) fn of(step: &Step) -> Self {
        let longest = step.plan.watch.poll_interval;
        Self { longest, pause: Duration::ZERO, least: Duration::ZERO, failures: 0, idle: false, heard: 0 }
    }

    /// A look brought rows, though not as many as were asked for.
    pub(super) fn brought(&mut self) {
        (self.pause, self.failures, self.idle) = (SOON.min(self.longest), 0, false);
        self.least = Duration::ZERO;
    }

    /// A look brought nothing. One that took long is not repeated soon: looks may take a twentieth of the time.
    pub(super) fn in_vain(&mut self, took: Duration) {
        (self.failures, self.idle, self.least) = (0, true, took * WOKEN_SHARE);
        self.pause = (self.pause * 2).clamp(SOON.min(self.longest), self.longest).max(took * 20);
    }

    /// Something went wrong.
    pub(super) fn failed(&mut self) {
        self.pause = (AGAIN * 2_u32.pow(self.failures.min(10))).min(AGAIN_MAX).mul_f64(0.5 + fastrand::f64() / 2.0);
        (self.failures, self.idle) = (self.failures + 1, false);
    }

    /// So long, and no longer than so.
    pub(super) fn at_most(&mut self, pause: Duration) {
        self.pause = self.pause.min(pause);
    }

    /// It has failed so often in a row that nobody is to wait for it.
    pub(super) fn is_hopeless(&self) -> bool {
        self.failures >= HOPELESS
    }

    pub(super) fn exactly(&mut self, pause: Duration) {
        (self.pause, self.idle) = (pause, false);
    }

    /// Rests, until a row may have come or the step ends; after an error, and at least for `least`, to its end.
    pub(super) async fn rest(&mut self, step: &Step, least: Duration) {
        tokio::select! {
            woken = self.sleep(step, least) => if woken {
                // what woke it may be seen a moment later, or be a row of another table: again soon
                self.pause = Duration::ZERO;
            },
            () = step.end.cancelled() => {}
        }
    }

    /// True: a row may have come.
    async fn sleep(&mut self, step: &Step, least: Duration) -> bool {
        let until = Instant::now() + self.pause;
        let least = least.max(self.least);
        time::sleep(if self.failures == 0 { least.min(self.pause) } else { self.pause }).await;
        while Instant::now() < until {
            if self.idle && self.pause >= DOZE_FROM {
                let heard = step.doze.ask(step).await;
                if std::mem::replace(&mut self.heard, heard) != heard {
                    return true;
                }
            }
            let part = until.min(Instant::now() + doze::AGAIN);
            if time::timeout_at(part, step.bells[step.step].wake.notified()).await.is_ok() {
                return true;
            }
        }
        false
    }
}

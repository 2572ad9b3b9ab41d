//! The settler: writes the verdicts about watched rows, as the flusher does those about runs, step by step.
//!
//! Apart from the flusher, since these statements touch people's own tables: a slow trigger there holds up no run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sqlx::postgres::PgDatabaseError;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{self, Instant},
};

use super::{
    journal::RowJournal,
    row_event::Failed,
    session::{Session, within},
    shared::{Phase, Shared},
};
use crate::{
    error::{LOCKED, is_missing_day, is_transient, said},
    lifecycle::{
        finish::Finished,
        leased::{Became, RowClaim, finish, release},
        prune::make_days,
    },
    metrics,
    run::{Status, transition::Event, transition::decide},
    watch::Step,
};

/// Verdicts in one statement: it joins lists by number, so it is not to be long.
const BATCH_MAX: usize = 200;
const AGE_MAX: Duration = Duration::from_millis(5);
/// How long a verdict waits whose row somebody else has locked; it doubles, since that may be a person.
const HELD_PAUSE: Duration = Duration::from_millis(10);
/// And how often.
const HELD_DOUBLINGS: u32 = 6;
/// How long one waits that the database refuses to take.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// How long a table, or the state of its rows, may be gone before their claims are freed: nobody else waits for it then.
const GONE_MAX: Duration = Duration::from_secs(5);
/// How long the last verdicts are tried at the end before they are left to rescue.
const LAST_TRY: Duration = Duration::from_secs(30);

/// Writes what comes in until the worker is over and nothing is left.
pub(super) async fn settle(shared: Arc<Shared>, session: Session, inbox: UnboundedReceiver<Finished>) {
    let mut settler = Settler { shared, session, inbox, waiting: vec![], last_try: None, elsewhere: false };
    while settler.gather().await {
        let batch = std::mem::take(&mut settler.waiting);
        let (now, later): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.not_before <= Instant::now());
        settler.waiting = later;
        for group in by_step(now) {
            settler.write_all(group).await;
        }
        settler.tell_others().await;
        if settler.is_at_the_end() {
            break;
        }
    }
    settler.session.close().await;
}

struct Settler {
    shared: Arc<Shared>,
    session: Session,
    inbox: UnboundedReceiver<Finished>,
    waiting: Vec<Verdict>,
    last_try: Option<Instant>,
    /// Rows came to a step that this worker has no handler for.
    elsewhere: bool,
}

/// A verdict on its way.
struct Verdict {
    row: Arc<RowClaim>,
    finished: Finished,
    not_before: Instant,
    /// How often its row was locked.
    held: u32,
    /// Since when there is no such table, or it has not the columns any more.
    gone: Option<Instant>,
}

impl Settler {
    /// Collects what is to be written. False: nothing is left and nothing will come.
    async fn gather(&mut self) -> bool {
        let mut came = vec![];
        if self.waiting.is_empty() {
            tokio::select! {
                biased;
                first = self.inbox.recv() => came.extend(first),
                () = self.shared.at_least(Phase::Over) => match self.inbox.try_recv() {
                    Ok(first) => came.push(first),
                    Err(_) => return false,
                },
            }
        } else {
            let next = self.waiting.iter().map(|one| one.not_before).min().unwrap_or_else(Instant::now);
            let _ = time::timeout_at(next, self.inbox.recv_many(&mut came, BATCH_MAX)).await;
        }
        let oldest = Instant::now();
        loop {
            while let Ok(next) = self.inbox.try_recv() {
                came.push(next);
            }
            let wait = AGE_MAX.saturating_sub(oldest.elapsed());
            if came.len() >= BATCH_MAX || came.is_empty() || wait.is_zero() || self.shared.in_hand() == 0 {
                break;
            }
            time::sleep(wait.min(Duration::from_millis(1))).await;
        }
        let now = Instant::now();
        self.waiting.extend(came.into_iter().filter_map(|finished| {
            Some(Verdict { row: Arc::clone(finished.row.as_ref()?), finished, not_before: now, held: 0, gone: None })
        }));
        true
    }

    /// Writes verdicts of one step.
    async fn write_all(&mut self, mut group: Vec<Verdict>) {
        while !group.is_empty() {
            let rest = group.split_off(group.len().min(BATCH_MAX));
            match self.write(&group).await {
                Ok(became) => self.settled(group, &became),
                Err(error) if is_gone(&error, &group[0].row.planned().step) => self.gone(group, &error).await,
                Err(error) if is_transient(&error) || group.len() == 1 => self.failed(group, &error),
                Err(error) => {
                    // one of them may be to blame: the others shall not wait for it
                    tracing::warn!(%error, rows = group.len(), "verdicts could not be written; trying one by one");
                    for one in group {
                        let one = vec![one];
                        match self.write(&one).await {
                            Ok(became) => self.settled(one, &became),
                            Err(error) => self.failed(one, &error),
                        }
                    }
                }
            }
            group = rest;
        }
    }

    async fn write(&mut self, group: &[Verdict]) -> sqlx::Result<Vec<Became>> {
        let Some(first) = group.first() else { return Ok(vec![]) };
        let step = first.row.planned();
        let batch: Vec<(&RowClaim, &Finished)> = group.iter().map(|one| (&*one.row, &one.finished)).collect();
        let deadline = self.session.deadline();
        let connection = self.session.connection().await?;
        let result = within(deadline, async {
            match finish(connection, step, &batch).await {
                Err(error) if is_missing_day(&error) => {
                    make_days(connection).await?;
                    finish(connection, step, &batch).await
                }
                became => became,
            }
        })
        .await;
        self.session.settle(result)
    }

    /// Wakes the workers that have the handler for where rows have come to.
    async fn tell_others(&mut self) {
        if !std::mem::take(&mut self.elsewhere) {
            return;
        }
        let deadline = self.session.deadline();
        let told = match self.session.connection().await {
            Ok(connection) => {
                within(deadline, sqlx::query("select pg_notify('watchbell', 'watches')").execute(connection)).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = self.session.settle(told) {
            tracing::debug!(%error, "other workers could not be woken; they poll");
        }
    }

    fn settled(&mut self, group: Vec<Verdict>, became: &[Became]) {
        let mut onward = None;
        for (mut one, became) in group.into_iter().zip(became) {
            let (row, verdict) = (&one.row, &one.finished.verdict);
            let watch = &row.plan.watch.name;
            match became {
                Became::Held => {
                    one.not_before = Instant::now() + HELD_PAUSE * 2_u32.pow(one.held.min(HELD_DOUBLINGS));
                    one.held += 1;
                    self.waiting.push(one);
                    continue;
                }
                Became::Moved => {
                    self.shared.row_journal.ended(row, &one.finished);
                    let (to, counted) = match verdict.status {
                        Status::Normal => (&row.planned().step.to, Some("normal")),
                        Status::Pending => (&row.planned().step.from, verdict.error.as_ref().map(|_| "retried")),
                        _ => (&row.planned().step.error, Some("failed")),
                    };
                    counted.into_iter().for_each(|status| metrics::watch_rows(watch, status, 1));
                    if let Some((_, error)) = &verdict.error {
                        let again_in = (verdict.status == Status::Pending).then(|| verdict.delay.unwrap_or_default());
                        let row = Failed { key: row.key(), attempt: row.standing.attempt, error, again_in };
                        self.shared.observer.row_failed(|| row.event(&one.row.plan, one.row.planned()));
                    }
                    if let Some(next) = row.plan.watch.step(to) {
                        onward = Some(row.plan.watch.id);
                        self.elsewhere |= self.shared.executor.registry.get(&next.handler).is_none();
                    }
                }
                Became::Changed => RowJournal::left(row, one.finished.claimed_by),
                Became::Superseded => RowJournal::refused(row, one.finished.claimed_by),
            }
            self.shared.quiet.ended();
            self.shared.unwritten.settle([&one.finished], &[]);
        }
        self.shared.tell_quiet();
        if let Some(watch) = onward {
            self.shared.quiet.wake(watch);
        }
    }

    /// Keeps verdicts that could not be written. A success that the table itself refuses becomes a failure, which is
    /// tried again like any other; if that is refused too, it is sent until it is taken, or the worker ends.
    fn failed(&mut self, group: Vec<Verdict>, error: &sqlx::Error) {
        let is_locked = error.as_database_error().and_then(|answer| answer.code()).as_deref() == Some(LOCKED);
        let pause = if is_locked {
            let watch = group.first().map(|one| &one.row.plan.watch.name);
            tracing::debug!(watch, rows = group.len(), "their table is locked: verdicts about rows wait");
            REFUSED_PAUSE
        } else if is_transient(error) {
            tracing::warn!(%error, rows = group.len(), "verdicts about rows could not be written; trying again");
            Duration::from_millis(50).mul_f64(1.0 + fastrand::f64() * 4.0)
        } else {
            REFUSED_PAUSE
        };
        for mut one in group {
            one.not_before = Instant::now() + pause;
            if !is_transient(error) {
                let step = &one.row.planned().step;
                if one.finished.verdict.status == Status::Normal {
                    let message = format!("could not be moved to \"{}\": {}", step.to, said(error));
                    let event = Event::Failed { kind: "error", message, after: None };
                    one.finished.verdict = decide(one.row.standing, event, &step.retry);
                    one.not_before = Instant::now();
                } else {
                    self.shared.row_journal.barred(&one.row, &one.finished, error);
                }
            }
            self.waiting.push(one);
        }
    }

    /// No end of theirs can be written: after a while their claims are freed, and wait for the sweep or for the step.
    async fn gone(&mut self, group: Vec<Verdict>, error: &sqlx::Error) {
        for mut one in group {
            let since = *one.gone.get_or_insert_with(Instant::now);
            if since.elapsed() < GONE_MAX || !self.release(&one, error).await {
                one.not_before = Instant::now() + REFUSED_PAUSE;
                self.waiting.push(one);
                continue;
            }
            let (watch, key) = (&one.row.plan.watch.name, one.row.key());
            tracing::warn!(watch, ?key, %error, "the end of a row cannot be written: its claim is freed");
            self.shared.quiet.ended();
            self.shared.unwritten.settle([&one.finished], &[]);
        }
        self.shared.tell_quiet();
    }

    async fn release(&mut self, one: &Verdict, why: &sqlx::Error) -> bool {
        let (row, finished, deadline) = (&one.row, &one.finished, self.session.deadline());
        let (claim, guard) = ((row.plan.watch.id, row.key()), (row.passage.id, finished.fence, finished.claimed_by));
        let released = match self.session.connection().await {
            Ok(connection) => within(deadline, release(connection, claim, guard, &said(why))).await,
            Err(error) => Err(error),
        };
        self.session.settle(released).is_ok()
    }

    fn is_at_the_end(&mut self) -> bool {
        if self.shared.phase() < Phase::Over || self.waiting.is_empty() {
            return false;
        }
        let since = *self.last_try.get_or_insert_with(Instant::now);
        let over = since.elapsed() > LAST_TRY;
        if over {
            let rows = self.waiting.len();
            tracing::error!(rows, "verdicts were not written before the end; their rows will be rescued");
        }
        over
    }
}

/// Whether there is no such schema, table or column, or the state in which rows were left is no label any more.
fn is_gone(error: &sqlx::Error, step: &Step) -> bool {
    let Some(answer) = error.as_database_error() else { return false };
    match answer.code().as_deref() {
        Some("3F000" | "42P01" | "42703") => true,
        Some("22P02") => {
            let answer = answer.try_downcast_ref::<PgDatabaseError>();
            let left = step.via.as_ref().unwrap_or(&step.from);
            // the server may speak any language: the label stands between quotation marks of some kind
            answer.is_some_and(|answer| {
                answer.routine() == Some("enum_in")
                    && answer.message().split(['"', '«', '»', '„', '“', '”']).any(|part| part.trim() == left)
            })
        }
        _ => false,
    }
}

/// Verdicts of one step, and of one version of its plan, together.
fn by_step(all: Vec<Verdict>) -> impl Iterator<Item = Vec<Verdict>> {
    let mut groups: BTreeMap<(usize, usize), Vec<Verdict>> = BTreeMap::new();
    for one in all {
        let key = (Arc::as_ptr(&one.row.plan).addr(), one.row.step);
        groups.entry(key).or_default().push(one);
    }
    groups.into_values()
}

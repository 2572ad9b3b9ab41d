//! Transact: a batch of a watched table's rows is taken, handled and moved on in one transaction.
//!
//! **In** rows that stand at the step's `from`, that nobody has locked or claimed, and that do not wait for another
//! attempt. **Out** rows at `to` together with what their handlers wrote; of those that failed, a claim that says when
//! to try again, or `error`. **Lock** the rows, from the moment they are taken to the commit, at most one and a half
//! times the worker's `watch_transaction`, and once they are locked it is asked again what is known of them; then their
//! claims. **Crash** the transaction leaves no trace; the rows that Rust handlers had in hand stand in `worker_batches`
//! and are charged with the crash.
//!
//! Each call of a handler, and the move of its rows, has a savepoint. A handler of one row at a time is called for
//! each; a batch for handlers of whole batches is halved where it fails, until the row at fault stands alone.

mod attempt;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Postgres, Row, Transaction, postgres::PgRow};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    execute::Executor,
    watch_crashed::{self, Hand},
    watch_failed::{self, Failure, with_keys},
};
use crate::{
    Error,
    handler::{TransactionalHandler, Work},
    run::transition::{CRASHES_MAX, Event},
    watch::{Key, Plan, Planned, plan::try_statement},
};
use attempt::Called;

/// Rows of one transaction in which each has a savepoint: more than 64 would leave PostgreSQL's cache of them.
const SAVEPOINTS_MAX: i64 = 50;

const BEGIN: &str = "begin isolation level read committed";

/// Bounds what the transaction may take in the server. The rows are taken without bitmap scans: where statistics know
/// little of them, as after a bulk of new ones, PostgreSQL would rather read and sort all that wait, for each batch
/// anew (170 pages for each of 15,000 rows, against 20), than read the index in order until there are enough.
const BOUND: &str = "select pg_backend_pid(), clock_timestamp(), current_setting('enable_bitmapscan') = 'on', \
     set_config('statement_timeout', $1, true), set_config('lock_timeout', '1s', true), \
     set_config('idle_in_transaction_session_timeout', $2, true), set_config('enable_bitmapscan', 'off', true)";

/// One of so many places for batches of a step, held to the end of the transaction. The series stands in a list of
/// columns, where it is made as far as it is read: as a relation all of it is written down first, up to a million places.
const PLACE: &str = "select n from (select generate_series(0, $2::bigint - 1) as n) places \
     where pg_try_advisory_xact_lock(hashtextextended('watchbell:watch:' || $1::text, 0) + n) limit 1";

/// Whether anything at all is known of a watch's rows. Where nothing fails nothing is, and the second look, which costs
/// as much as a fifth of the batch, is spared.
const ANY_KNOWN: &str = "select exists (select from watchbell.watch_claims c where c.watch_id = $1)";

/// What batches of a step are worked with.
#[derive(Debug, Clone)]
pub struct Line {
    /// The watch and its table.
    pub plan: Arc<Plan>,
    /// Which of its steps.
    pub step: usize,
    /// Connections that handlers do not use.
    pub own: sqlx::PgPool,
    /// How long a transaction may last.
    pub limit: Duration,
}

/// One batch that is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Who asks.
    pub worker: i32,
    /// Which of its batches of this step.
    pub lane: i16,
    /// How many rows.
    pub rows: i64,
    /// Only rows behind this place in the order.
    pub behind: Option<Vec<String>>,
    /// Handlers are to stop.
    pub stop: CancellationToken,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worked {
    /// Rows taken.
    pub taken: i64,
    /// There may be more where these came from.
    pub full: bool,
    /// The place of the last one in the order, if there is going on from it.
    pub place: Option<Vec<String>>,
    /// Rows moved on.
    pub done: i64,
    /// Rows given up.
    pub failed: i64,
    /// Rows to be tried again after an error.
    pub retried: i64,
    /// As many rows are in work as may be.
    pub crowded: bool,
    /// Nothing came of it since it took too long as one: ask for fewer.
    pub too_many: bool,
    /// The handler's statement cannot be executed, whatever the rows: the watch is to be planned anew.
    pub broken: bool,
    /// What is recorded of rows whose handlers did not succeed, snoozes too.
    pub failures: Vec<Failure>,
}

impl Worked {
    /// What is recorded of rows whose handlers did not succeed.
    pub(crate) fn count(&mut self, failures: Vec<Failure>) {
        let count = |is: fn(&Failure) -> bool| failures.iter().filter(|failure| is(failure)).count() as i64;
        self.failed = count(Failure::gives_up);
        self.retried = count(|failure| failure.is_error() && !failure.gives_up());
        self.failures = failures;
    }
}

/// A row in hand.
#[derive(Debug)]
struct Got {
    key: Key,
    row: String,
    attempts: i32,
    crashes: i16,
    /// There is a claim to be forgotten.
    known: bool,
}

impl Line {
    /// The step.
    pub fn planned(&self) -> &Planned {
        &self.plan.steps[self.step]
    }
}

/// Takes, handles and moves on one batch.
///
/// # Errors
/// The database's: nothing happened, or all of it if the answer to the commit was lost.
pub async fn transact(executor: &Executor, line: &Line, ask: Ask) -> sqlx::Result<Worked> {
    let planned = line.planned();
    let Some(entry) = executor.registry.get(&planned.step.handler) else { return Ok(Worked::default()) };
    let Work::Transactional(handler) = &entry.work else { return Ok(Worked::default()) };
    let has_statement = entry.work.statement_over(&planned.step.payload, &|_| String::new()).is_some();
    let batch = Batch {
        executor,
        line,
        planned,
        handler,
        in_sets: entry.work.takes_batch(),
        has_statement,
        began: Instant::now(),
        backend: 0,
        bitmaps: true,
        now: DateTime::UNIX_EPOCH,
        timeout: entry.options.timeout_of(planned.step.timeout).map_or(line.limit, |own| own.min(line.limit)),
        ask,
        worked: Worked::default(),
        failures: vec![],
        known: vec![],
    };
    batch.work().await
}

/// A batch at work.
struct Batch<'a> {
    executor: &'a Executor,
    line: &'a Line,
    planned: &'a Planned,
    handler: &'a Arc<dyn TransactionalHandler>,
    /// The handler takes all rows at once.
    in_sets: bool,
    /// It executes a statement, and needs no more of the rows than their keys.
    has_statement: bool,
    began: Instant,
    backend: i32,
    /// Handlers' statements may use bitmap scans.
    bitmaps: bool,
    now: DateTime<Utc>,
    /// Of one call.
    timeout: Duration,
    ask: Ask,
    worked: Worked,
    failures: Vec<Failure>,
    /// Rows that were moved on and have a claim to be forgotten.
    known: Vec<Key>,
}

impl<'a> Batch<'a> {
    async fn work(mut self) -> sqlx::Result<Worked> {
        let mut transaction = self.executor.pool.begin_with(BEGIN).await?;
        if let Some(now) = self.executor.now {
            let set = sqlx::query("select set_config('watchbell.now', $1, true)").bind(now.to_rfc3339());
            set.execute(&mut *transaction).await?;
        }
        let idle = self.line.limit * 2 + self.executor.grace;
        let bound = sqlx::query(BOUND).bind(format!("{}ms", self.line.limit.as_millis()));
        let bound = bound.bind(format!("{}ms", idle.as_millis())).fetch_one(&mut *transaction).await?;
        (self.backend, self.now, self.bitmaps) = (bound.try_get(0)?, bound.try_get(1)?, bound.try_get(2)?);
        if !self.find_place(&mut transaction).await? {
            transaction.rollback().await?;
            return Ok(Worked { crowded: true, ..Worked::default() });
        }
        let rows = self.take(&mut transaction).await?;
        if rows.is_empty() {
            transaction.rollback().await?;
            return Ok(self.worked);
        }
        let hand = self.hand();
        if self.has_statement {
            self.finish(transaction, &rows).await?;
            return Ok(self.worked);
        }
        if !watch_crashed::note(&self.line.own, hand, rows.iter().map(|row| &row.key)).await? {
            transaction.rollback().await?;
            return Ok(Worked::default());
        }
        let ended = self.finish(transaction, &rows).await;
        // what was rolled back is still noted: nobody else would take these rows
        if !matches!(ended, Ok(true)) {
            watch_crashed::over(&self.line.own, hand).await?;
        }
        ended.map(|_| self.worked)
    }

    /// Handles the rows and commits. False: the transaction was lost.
    async fn finish(&mut self, transaction: Transaction<'static, Postgres>, rows: &[Got]) -> sqlx::Result<bool> {
        let Some(mut transaction) = self.handle(transaction, rows).await? else { return Ok(false) };
        if !self.has_statement {
            watch_crashed::over(&mut *transaction, self.hand()).await?;
        }
        self.end(&mut transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    fn hand(&self) -> Hand<'a> {
        let (line, step) = (self.line, &self.planned.step.from);
        Hand { worker: self.ask.worker, watch: line.plan.watch.id, step, lane: self.ask.lane }
    }

    /// One of the places of a step with `max_running`: as many batches at once as it allows for.
    async fn find_place(&mut self, transaction: &mut Transaction<'static, Postgres>) -> sqlx::Result<bool> {
        let Some(most) = self.planned.step.max_running else { return Ok(true) };
        let batch = self.planned.step.batch.min(most);
        self.ask.rows = self.ask.rows.min(batch);
        let step = format!("{}:{}", self.line.plan.watch.id, self.planned.step.from);
        let place = sqlx::query(PLACE).bind(step).bind(most / batch).fetch_optional(&mut **transaction).await?;
        Ok(place.is_some())
    }

    async fn take(&mut self, transaction: &mut Transaction<'static, Postgres>) -> sqlx::Result<Vec<Got>> {
        let (statements, behind) = (&self.planned.statements, self.ask.behind.take());
        let limit = if self.in_sets { self.ask.rows } else { self.ask.rows.min(SAVEPOINTS_MAX) };
        let take = if self.has_statement {
            statements.take_keys(&limit, behind.is_some())
        } else {
            statements.take_spared(&limit, behind.is_some(), self.ask.worker)
        };
        let query = sqlx::query(AssertSqlSafe(take)).persistent(false);
        let query = behind.into_iter().flatten().fold(query, |query, part| query.bind(part));
        let found = query.fetch_all(&mut **transaction).await?;
        let rows = found.iter().map(got).collect::<sqlx::Result<Vec<Got>>>()?;
        self.worked.full = found.len() as i64 >= limit;
        let news = self.news(transaction, &rows).await?;
        let both = found.into_iter().zip(rows).filter(|(_, row)| !news.contains(&row.key));
        let (found, mut rows): (Vec<PgRow>, Vec<Got>) = both.unzip();
        // one that took its worker down is handled alone
        if let Some(at) = rows.iter().position(|row| row.crashes > 0) {
            self.worked.full |= found.len() > at.max(1);
            rows.truncate(at.max(1));
        }
        self.worked.taken = rows.len() as i64;
        if statements.goes_on() && !rows.is_empty() {
            self.worked.place = Some(found[rows.len() - 1].try_get(1)?);
        }
        Ok(rows)
    }

    /// Rows that somebody else has tried, or has in hand, since the statement that took them began: a failed row
    /// stays as it is, so that its lock alone tells of nothing.
    async fn news(&self, transaction: &mut Transaction<'static, Postgres>, rows: &[Got]) -> sqlx::Result<HashSet<Key>> {
        let watch = self.line.plan.watch.id;
        let any = sqlx::query_scalar::<_, bool>(ANY_KNOWN).bind(watch);
        if rows.is_empty() || !any.fetch_one(&mut **transaction).await? {
            return Ok(HashSet::new());
        }
        let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
        let statements = &self.planned.statements;
        let query = sqlx::query(AssertSqlSafe(statements.known())).persistent(false);
        let query = Key::columns(&keys, statements.width()).into_iter().fold(query, |query, column| query.bind(column));
        let known = query.fetch_all(&mut **transaction).await?;
        let known = known.iter().map(|claim| Ok((Key(claim.try_get(0)?), (claim.try_get(1)?, claim.try_get(2)?))));
        let known: HashMap<Key, (i32, bool)> = known.collect::<sqlx::Result<_>>()?;
        let is_news = |row: &&Got| known.get(&row.key).is_some_and(|(attempt, busy)| *busy || *attempt != row.attempts);
        Ok(rows.iter().filter(is_news).map(|row| row.key.clone()).collect())
    }

    /// Calls the handler for all rows, in as many calls as it takes. `None`: the transaction is lost.
    async fn handle(
        &mut self,
        transaction: Transaction<'static, Postgres>,
        rows: &[Got],
    ) -> sqlx::Result<Option<Transaction<'static, Postgres>>> {
        let mut calls: Vec<&[Got]> = if self.in_sets { vec![rows] } else { rows.chunks(1).rev().collect() };
        let mut transaction = transaction;
        let begin = match self.bitmaps {
            true => "set local enable_bitmapscan = on; savepoint watchbell",
            false => "savepoint watchbell",
        };
        sqlx::raw_sql(begin).execute(&mut *transaction).await?;
        while let Some(rows) = calls.pop() {
            if self.worked.done + (self.failures.len() as i64) > 0 && self.began.elapsed() > self.line.limit {
                self.worked.full = true; // the others stay as they were
                break;
            }
            if let [row] = rows
                && row.crashes >= CRASHES_MAX
            {
                let said = "it took its worker down".to_owned();
                self.failed(row, Event::Fatal { message: format!("{said} {} times", row.crashes) });
                continue;
            }
            let (called, back) = self.call(transaction, rows).await?;
            match (called, back) {
                (Called::Moved, Some(back)) => {
                    self.worked.done += rows.len() as i64;
                    self.known.extend(rows.iter().filter(|row| row.known).map(|row| row.key.clone()));
                    transaction = back;
                }
                (Called::Stopped, Some(back)) => {
                    transaction = back;
                    break;
                }
                (Called::Failed(event), Some(back)) => {
                    transaction = back;
                    if self.is_broken(&event).await {
                        self.worked.broken = true;
                        break;
                    }
                    match (rows, &event) {
                        (_, Event::Snoozed { .. }) | ([_], _) => {
                            rows.iter().for_each(|row| self.failed(row, event.clone()));
                        }
                        _ => {
                            let (first, second) = rows.split_at(rows.len() / 2);
                            calls.extend([second, first]);
                        }
                    }
                }
                (called, _) => {
                    self.lost(called, rows).await?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(transaction))
    }

    fn failed(&mut self, row: &Got, event: Event) {
        let step = &self.planned.step;
        self.failures.push(Failure::of(step, row.key.clone(), row.attempts, row.crashes, event));
    }

    /// Whether it is the statement that cannot be executed, and no row's fault.
    async fn is_broken(&self, event: &Event) -> bool {
        if !(self.has_statement && matches!(event, Event::Fatal { .. })) {
            return false;
        }
        let Ok(mut conn) = self.line.own.acquire().await else { return false };
        let Planned { step, statements, .. } = self.planned;
        matches!(try_statement(&mut conn, step, statements, &self.executor.registry).await, Err(Error::Invalid { .. }))
    }

    /// The transaction is gone and with it all that was done: what can be blamed on one row is, apart from it.
    async fn lost(&mut self, called: Called, rows: &[Got]) -> sqlx::Result<()> {
        self.worked.done = 0;
        self.failures.clear();
        match (called, rows) {
            (Called::Lost(event), [row]) => self.failed(row, event),
            _ => {
                self.worked.too_many = true;
                return Ok(());
            }
        }
        let (line, failures) = (self.line, std::mem::take(&mut self.failures));
        let recorded = watch_failed::record_apart(&line.own, &line.plan, self.planned, self.ask.worker, failures);
        self.count(recorded.await?);
        Ok(())
    }

    /// Writes down what failed, and forgets what was known of the rest.
    async fn end(&mut self, transaction: &mut Transaction<'static, Postgres>) -> sqlx::Result<()> {
        let (statements, mut failures) = (&self.planned.statements, std::mem::take(&mut self.failures));
        if !failures.is_empty() {
            let plan = &self.line.plan;
            watch_failed::record(&mut *transaction, plan, self.planned, self.ask.worker, &mut failures).await?;
        }
        if !self.known.is_empty() {
            with_keys(&mut *transaction, statements.forget(), &self.known, statements.width()).await?;
        }
        self.count(failures);
        Ok(())
    }

    fn count(&mut self, failures: Vec<Failure>) {
        self.worked.count(failures);
    }
}

fn got(row: &PgRow) -> sqlx::Result<Got> {
    let attempts: Option<i32> = row.try_get(3)?;
    Ok(Got {
        key: Key(row.try_get(0)?),
        row: row.try_get::<Option<String>, _>(2)?.unwrap_or_default(),
        attempts: attempts.unwrap_or(0),
        crashes: row.try_get::<Option<i16>, _>(4)?.unwrap_or(0),
        known: attempts.is_some(),
    })
}

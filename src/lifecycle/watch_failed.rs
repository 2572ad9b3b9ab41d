//! Failed: what went wrong with rows of a watch is counted, and some are given up.
//!
//! **In** rows whose handlers failed. **Out** a claim that says when each is tried again, or the row in its step's
//! `error` state and no claim; an error of the attempt. **Lock** the rows, by the caller's transaction or by this one,
//! then their claims. **Crash** nothing was counted, and the rows are taken again.
//!
//! Inside the transaction of the batch wherever that still stands: it goes back to before the handler and keeps the
//! rows locked, so nobody can take such a row before its failure is counted.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, postgres::PgQueryResult};

use super::watch_moved::{move_rows, stays};
use crate::{
    run::{
        Status,
        transition::{Event, Standing, Verdict, decide},
    },
    watch::{Key, Plan, Planned, Step},
};

const FAILED: &str = include_str!("../sql/8_watch_failed.sql");

/// How long a row waits whose way to its error state is barred.
const BARRED_MS: i64 = 60_000;

/// What is to be written about a row whose handler did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The row.
    pub key: Key,
    /// Which attempt, from 1.
    pub attempt: i32,
    /// What became of the attempt.
    status: Status,
    /// Tried again after so long; `None`: given up.
    delay_ms: Option<i64>,
    /// What happened, of which kind; a snooze is nothing.
    error: Option<(&'static str, String)>,
    /// Its table refuses the error state.
    barred: bool,
}

impl Failure {
    /// What an attempt's end means for a row with so many attempts and crashes before it.
    pub fn of(step: &Step, key: Key, attempts: i32, crashes: i16, event: Event) -> Self {
        let (attempt, id) = (attempts + 1, i64::from_ne_bytes(key.seed().to_ne_bytes()));
        let standing = Standing { id, attempt, max_attempts: step.max_attempts, crashes };
        let Verdict { status, delay, unstarted, error, .. } = decide(standing, event, &step.retry);
        let delay = (status == Status::Pending).then(|| delay.unwrap_or_default());
        Self {
            key,
            attempt: if unstarted { attempts } else { attempt },
            status,
            delay_ms: delay.map(|delay| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 1_000_000)),
            error,
            barred: false,
        }
    }

    /// Whether it was to be given up and its table refuses that.
    pub fn is_barred(&self) -> bool {
        self.barred
    }

    /// What became of the attempt, as of a run's.
    pub fn verdict(&self) -> Verdict {
        let delay = self.delay_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        let unstarted = self.error.is_none() && !self.gives_up();
        Verdict { status: self.status, delay, unstarted, crashed: false, error: self.error.clone() }
    }

    /// Whether it is not tried again.
    pub fn gives_up(&self) -> bool {
        self.delay_ms.is_none()
    }

    /// Whether it was an error, and no snooze.
    pub fn is_error(&self) -> bool {
        self.error.is_some()
    }

    /// What went wrong, if it was an error.
    pub fn message(&self) -> Option<&str> {
        self.error.as_ref().map(|(_, message)| message.as_str())
    }

    /// How long until it is tried again, if it is.
    pub fn again_in(&self) -> Option<Duration> {
        self.delay_ms.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()))
    }

    /// Its table does not let it become this: it waits a while, with that reason.
    fn bar(&mut self, state: &str, message: &str) {
        self.barred = true;
        self.delay_ms = Some(BARRED_MS);
        let (kind, said) = self.error.take().unwrap_or(("error", String::new()));
        self.error = Some((kind, format!("{said}; and it cannot become \"{state}\": {message}")));
    }

    fn json(&self) -> Value {
        let (kind, message) = self.error.clone().unzip();
        // zero has no place in a text of the database
        let message = message.map(|message| message.replace('\0', "\u{fffd}"));
        let Self { key, attempt, delay_ms, .. } = self;
        json!({"key": key.0, "attempt": attempt, "delay_ms": delay_ms, "kind": kind, "message": message})
    }
}

/// Records failures of rows that this transaction has locked.
pub async fn record(
    conn: &mut PgConnection,
    plan: &Plan,
    planned: &Planned,
    worker: i32,
    failures: &mut [Failure],
) -> sqlx::Result<()> {
    let given_up: Vec<Key> = failures.iter().filter(|failure| failure.gives_up()).map(|f| f.key.clone()).collect();
    if !given_up.is_empty() && give_up(&mut *conn, plan, planned, &given_up).await?.is_err() {
        // a check or a trigger of the table's own: each by itself, so that one does not hold back the others
        for key in given_up {
            if let Err(message) = give_up(&mut *conn, plan, planned, std::slice::from_ref(&key)).await? {
                failures
                    .iter_mut()
                    .filter(|failure| failure.key == key)
                    .for_each(|f| f.bar(&planned.step.error, &message));
            }
        }
    }
    let all: Vec<Value> = failures.iter().map(Failure::json).collect();
    let (watch, step) = (plan.watch.id, &planned.step.from);
    sqlx::query(FAILED).bind(watch).bind(step).bind(Value::from(all)).bind(worker).execute(conn).await?;
    Ok(())
}

/// The same in a transaction of its own, on a connection that handlers do not use: the batch's transaction is gone.
/// Answers those that were recorded: rows that somebody else has meanwhile are not.
pub async fn record_apart(
    own: &PgPool,
    plan: &Plan,
    planned: &Planned,
    worker: i32,
    mut failures: Vec<Failure>,
) -> sqlx::Result<Vec<Failure>> {
    let mut transaction = own.begin().await?;
    let keys = Key::columns(failures.iter().map(|failure| &failure.key), planned.statements.width());
    let lock = sqlx::query_scalar::<_, Vec<String>>(AssertSqlSafe(planned.statements.lock())).persistent(false);
    let locked = keys.iter().fold(lock, |lock, column| lock.bind(column)).fetch_all(&mut *transaction).await?;
    failures.retain(|failure| locked.contains(&failure.key.0));
    record(&mut transaction, plan, planned, worker, &mut failures).await?;
    transaction.commit().await?;
    Ok(failures)
}

/// Moves rows to their error state and forgets their claims; or why the table does not let them go.
async fn give_up(
    conn: &mut PgConnection,
    plan: &Plan,
    planned: &Planned,
    keys: &[Key],
) -> sqlx::Result<Result<(), String>> {
    let (step, statements) = (&planned.step, &planned.statements);
    sqlx::raw_sql("savepoint watchbell_given_up").execute(&mut *conn).await?;
    let why = match move_rows(&mut *conn, plan, planned, keys, &step.error).await {
        Ok(true) => return with_keys(conn, statements.forget(), keys, statements.width()).await.map(|_| Ok(())),
        Ok(false) => stays(&step.from),
        Err(sqlx::Error::Database(answer)) => answer.message().to_owned(),
        Err(error) => return Err(error),
    };
    sqlx::raw_sql("rollback to savepoint watchbell_given_up").execute(conn).await?;
    Ok(Err(why))
}

/// Executes one of a step's statements for these rows.
pub(crate) async fn with_keys(
    conn: &mut PgConnection,
    statement: String,
    keys: &[Key],
    width: usize,
) -> sqlx::Result<PgQueryResult> {
    let query = sqlx::query(AssertSqlSafe(statement)).persistent(false);
    Key::columns(keys, width).into_iter().fold(query, |query, column| query.bind(column)).execute(conn).await
}

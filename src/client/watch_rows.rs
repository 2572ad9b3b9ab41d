//! The rows of a watched table: how many stand where, which would be taken, which failed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use super::answer::answer;
use crate::db::Named;
use crate::error::Result;

/// How many rows of a watch stand in one state.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{WatchCount, watch_counts};
///
/// for WatchCount { state, rows, .. } in watch_counts(&pool, "hosts").await? {
///     println!("{state}: {rows:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WatchCount {
    /// The state.
    pub state: String,
    /// `waiting` (a step takes them), `left_out` (its filter does not let them through), `working`, `done` or `failed`.
    pub role: String,
    /// How many; none if they could not be counted.
    pub rows: Option<i64>,
    /// There may be more: 10,000 were counted, or with a filter 100,000 looked at.
    pub capped: bool,
    /// Since when the oldest of those counted stands there, if the watch has a `since_column`.
    pub oldest: Option<DateTime<Utc>>,
    /// Why they were not counted: the filter fails, or it would read a large table.
    pub problem: Option<String>,
}

/// Counts the rows of a watch in each of its states, in the order of its steps.
///
/// A state from which a step with a filter takes rows comes twice: with those that it takes, and with those left out.
///
/// The caller must be allowed to read the table.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); [`Error::Conflict`](crate::Error::Conflict) if its table is gone.
pub async fn watch_counts(executor: impl PgExecutor<'_>, watch: &str) -> Result<Vec<WatchCount>> {
    let statement = "select c.state, c.role, c.rows, c.capped, c.oldest, c.problem from watchbell.watch_counts($1) c";
    let call = sqlx::query(statement).bind(watch);
    let rows = answer("watch", watch, call.fetch_all(executor).await)?;
    let read = |row: &PgRow| -> sqlx::Result<WatchCount> {
        Ok(WatchCount {
            state: row.try_get("state")?,
            role: row.try_get("role")?,
            rows: row.try_get("rows")?,
            capped: row.try_get("capped")?,
            oldest: row.try_get("oldest")?,
            problem: row.try_get("problem")?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().named()
}

/// What a worker would take of one step of a watch.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{WatchTrial, test_watch};
///
/// for WatchTrial { from, missing_index, .. } in test_watch(&pool, "hosts", 5).await? {
///     println!("{from}: {}", missing_index.unwrap_or_default());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WatchTrial {
    /// Rows in this state are taken.
    pub from: String,
    /// Their state while the handler works.
    pub via: Option<String>,
    /// Their state after success.
    pub to: String,
    /// Their state after the last failed attempt.
    pub error: String,
    /// What does the work.
    pub handler: String,
    /// `transactional` or `leased`; none before a worker has chosen.
    pub mode: Option<String>,
    /// Why this mode.
    pub reason: String,
    /// The keys of the rows that come first: a JSON list of lists; none if looking would read a large table.
    pub keys: Option<Box<RawValue>>,
    /// Whether an index leads to them.
    pub by_index: bool,
    /// How PostgreSQL would find them, as EXPLAIN says it.
    pub explained: String,
    /// The statement that makes the index that is missing.
    pub missing_index: Option<String>,
}

/// Tells what a worker would take of each step of a watch, and takes nothing: `sample` keys of each, 0 to 1000.
///
/// The caller must be allowed to read the table.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); [`Error::Conflict`](crate::Error::Conflict) if its table is gone;
/// [`Error::Invalid`](crate::Error::Invalid) for a sample out of range.
pub async fn test_watch(executor: impl PgExecutor<'_>, watch: &str, sample: i32) -> Result<Vec<WatchTrial>> {
    let statement = "select t.from_state, t.via_state, t.to_state, t.error_state, t.handler, t.mode, t.reason, \
                     t.keys::text, t.by_index, t.explained, t.missing_index from watchbell.test_watch($1, $2) t";
    let rows = answer("watch", watch, sqlx::query(statement).bind(watch).bind(sample).fetch_all(executor).await)?;
    let read = |row: &PgRow| -> sqlx::Result<WatchTrial> {
        let keys: Option<String> = row.try_get("keys")?;
        Ok(WatchTrial {
            from: row.try_get("from_state")?,
            via: row.try_get("via_state")?,
            to: row.try_get("to_state")?,
            error: row.try_get("error_state")?,
            handler: row.try_get("handler")?,
            mode: row.try_get("mode")?,
            reason: row.try_get("reason")?,
            keys: keys.map(RawValue::from_string).transpose().map_err(|e| sqlx::Error::Decode(e.into()))?,
            by_index: row.try_get("by_index")?,
            explained: row.try_get("explained")?,
            missing_index: row.try_get("missing_index")?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().named()
}

/// Why an attempt at a row of a watch failed.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{WatchError, watch_errors};
///
/// for WatchError { at, key, message, .. } in watch_errors(&pool, "hosts", None, 20).await? {
///     println!("{at} {}: {message}", key.join("/"));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WatchError {
    /// The row's key columns as text, in order.
    pub key: Vec<String>,
    /// The state that the row was taken from.
    pub step: String,
    /// Which attempt.
    pub attempt: i32,
    /// Where it ran.
    pub worker_id: Option<i32>,
    /// What kind of end: error, timeout, panic, crash, ...
    pub kind: String,
    /// What went wrong.
    pub message: String,
    /// When.
    pub at: DateTime<Utc>,
    /// When the row is tried again, if it waits for that.
    pub again_at: Option<DateTime<Utc>>,
    /// The last lines that the attempt printed, up to 4 KiB, in leased mode; none for those who may not read them.
    pub output: Option<String>,
}

/// Reads the newest errors of a watch, at most `limit`: those of one row by its key, or of the last hour.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); otherwise what the database answers.
pub async fn watch_errors(
    executor: impl PgExecutor<'_>,
    watch: &str,
    key: Option<&[String]>,
    limit: u32,
) -> Result<Vec<WatchError>> {
    let statement = sqlx::query(include_str!("../sql/client/watch_errors.sql")).bind(watch).bind(key);
    let rows = answer("watch", watch, statement.bind(i64::from(limit)).fetch_all(executor).await)?;
    let read = |row: &PgRow| -> sqlx::Result<WatchError> {
        Ok(WatchError {
            key: row.try_get("key")?,
            step: row.try_get("step")?,
            attempt: row.try_get("attempt")?,
            worker_id: row.try_get("worker_id")?,
            kind: row.try_get("kind")?,
            message: row.try_get("message")?,
            at: row.try_get("at")?,
            again_at: row.try_get("again_at")?,
            output: row.try_get("output")?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().named()
}

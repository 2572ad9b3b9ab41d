//! Queues and concurrency limits as people read them.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::{PgExecutor, Row};

use super::schedule_list::{elapsed, words};
use crate::db::Named;
use crate::error::Result;

/// One queue, and what waits in it.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// for queue in watchbell::client::queues(&pool).await? {
///     println!("{}: {} are due, {} run", queue.name, queue.ready, queue.running);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// Since when no run of it is started.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why it is paused.
    pub pause_note: Option<String>,
    /// Runs that are due and wait.
    pub ready: i64,
    /// Runs that are not due yet.
    pub later: i64,
    /// Runs that are being executed.
    pub running: i64,
    /// There are more than 10,000 open runs, of which only so many were counted.
    pub capped: bool,
    /// When the run that waits longest was due.
    pub oldest_ready_at: Option<DateTime<Utc>>,
    /// How long it has waited.
    #[serde(serialize_with = "words")]
    pub oldest_waits_for: Option<TimeDelta>,
}

/// Reads all queues by name, 10,000 at most.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// let waiting: i64 = watchbell::client::queues(&pool).await?.iter().map(|queue| queue.ready).sum();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the database answers.
pub async fn queues(executor: impl PgExecutor<'_>) -> Result<Vec<QueueRow>> {
    let rows = sqlx::query(include_str!("../sql/client/list_queues.sql")).fetch_all(executor).await.named()?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<QueueRow, sqlx::Error> {
        Ok(QueueRow {
            name: row.try_get("queue")?,
            paused_at: row.try_get("paused_at")?,
            paused_by: row.try_get("paused_by")?,
            pause_note: row.try_get("pause_note")?,
            ready: row.try_get("ready")?,
            later: row.try_get("later")?,
            running: row.try_get("running")?,
            capped: row.try_get("capped")?,
            oldest_ready_at: row.try_get("oldest_ready_at")?,
            oldest_waits_for: elapsed(row, "oldest_waits_for")?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().named()
}

/// One concurrency key, and how many of its runs may run at a time.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// for limit in watchbell::client::limits(&pool).await? {
///     println!("{}: {} of {}", limit.key, limit.running, limit.max_running);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct LimitRow {
    /// The `concurrency_key` of its runs.
    pub key: String,
    /// How many may run at a time.
    pub max_running: i32,
    /// How many run.
    pub running: i32,
}

/// Reads all concurrency keys by name, 10,000 at most.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// let full = watchbell::client::limits(&pool).await?.iter().filter(|limit| limit.running >= limit.max_running).count();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the database answers.
pub async fn limits(executor: impl PgExecutor<'_>) -> Result<Vec<LimitRow>> {
    let rows = sqlx::query(include_str!("../sql/client/list_limits.sql")).fetch_all(executor).await.named()?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<LimitRow, sqlx::Error> {
        Ok(LimitRow {
            key: row.try_get("key")?,
            max_running: row.try_get("max_running")?,
            running: row.try_get("running")?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().named()
}

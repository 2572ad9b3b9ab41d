//! Workers, and the handlers that they serve, as people read them.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use super::schedule_list::{elapsed, words};
use crate::db::Named;
use crate::error::{Error, Result};

/// One worker process.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// for worker in watchbell::client::workers(&pool, false).await? {
///     println!("{} {} on {}: {} of {} slots", worker.id, worker.state, worker.host, worker.running, worker.slots);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WorkerRow {
    /// Its number, a new one at each start.
    pub id: i32,
    /// Its name: host and process unless configured.
    pub name: String,
    /// Its host.
    pub host: String,
    /// The address it reaches the database from, where known.
    pub ip: Option<String>,
    /// Its process id on its host.
    pub pid: i32,
    /// The version of watchbell in it.
    pub version: String,
    /// `starting`, `running`, `draining` (it ends), `stopped` (in good order) or `dead`.
    pub state: String,
    /// How many runs, and rows of watches in leased mode, it works on at once.
    pub slots: i32,
    /// How many of these it has.
    pub running: i64,
    /// Queues it serves; none is all.
    pub queues: Option<Vec<String>>,
    /// Handlers it has.
    pub handlers: Vec<String>,
    /// Its labels, for runs with a target.
    pub labels: Vec<String>,
    /// When it registered.
    pub started_at: DateTime<Utc>,
    /// When it was last heard of; it speaks once a second.
    pub heartbeat_at: DateTime<Utc>,
    /// How long ago that is.
    #[serde(serialize_with = "words")]
    pub heartbeat_age: Option<TimeDelta>,
    /// Until when it keeps its runs without another word.
    pub lease_until: DateTime<Utc>,
    /// When someone asked it to drain.
    pub drain_requested_at: Option<DateTime<Utc>>,
    /// When it stopped or was declared dead.
    pub ended_at: Option<DateTime<Utc>>,
}

impl WorkerRow {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            host: row.try_get("host")?,
            ip: row.try_get("ip")?,
            pid: row.try_get("pid")?,
            version: row.try_get("version")?,
            state: row.try_get("state")?,
            slots: row.try_get("slots")?,
            running: row.try_get("running")?,
            queues: row.try_get("queues")?,
            handlers: row.try_get("handlers")?,
            labels: row.try_get("labels")?,
            started_at: row.try_get("started_at")?,
            heartbeat_at: row.try_get("heartbeat_at")?,
            heartbeat_age: elapsed(row, "heartbeat_age")?,
            lease_until: row.try_get("lease_until")?,
            drain_requested_at: row.try_get("drain_requested_at")?,
            ended_at: row.try_get("ended_at")?,
        })
    }
}

/// Reads the workers that have not ended, the newest first; with `ended` also those of the last 7 days.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// let died = watchbell::client::workers(&pool, true).await?.iter().filter(|worker| worker.state == "dead").count();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the database answers.
pub async fn workers(executor: impl PgExecutor<'_>, ended: bool) -> Result<Vec<WorkerRow>> {
    read_workers(executor, ended, None).await
}

/// Reads one worker by its number.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// println!("{}", watchbell::client::worker(&pool, 7).await?.state);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NotFound`] for an unknown number.
pub async fn worker(executor: impl PgExecutor<'_>, id: i32) -> Result<WorkerRow> {
    let hint = "; list workers with: watchbell workers list --all";
    read_workers(executor, true, Some(id)).await?.pop().ok_or_else(|| Error::NotFound {
        kind: "worker",
        name: id.to_string(),
        hint: hint.to_owned(),
    })
}

async fn read_workers(executor: impl PgExecutor<'_>, ended: bool, id: Option<i32>) -> Result<Vec<WorkerRow>> {
    let query = sqlx::query(include_str!("../sql/client/list_workers.sql")).bind(ended).bind(id);
    let rows = query.fetch_all(executor).await.named()?;
    rows.iter().map(WorkerRow::read).collect::<Result<_, _>>().named()
}

/// One handler that some worker has or had, or that a schedule or a waiting run names.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// for handler in watchbell::client::handlers(&pool).await? {
///     if handler.workers.is_empty() && handler.waiting > 0 {
///         println!("{} runs wait for {}, which no worker serves", handler.waiting, handler.name);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct HandlerRow {
    /// Its name.
    pub name: String,
    /// The names of the workers that serve it now.
    pub workers: Vec<String>,
    /// How many schedules fire it.
    pub schedules: i64,
    /// How many runs are due and wait for it.
    pub waiting: i64,
    /// How long the oldest of them has waited.
    #[serde(serialize_with = "words")]
    pub oldest_waits_for: Option<TimeDelta>,
    /// When a worker first registered it; none if none ever did.
    pub first_seen_at: Option<DateTime<Utc>>,
    /// When a worker last registered it.
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// Reads all handlers by name, 10,000 at most; it looks at every run that waits.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// let waiting: i64 = watchbell::client::handlers(&pool).await?.iter().map(|handler| handler.waiting).sum();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the database answers.
pub async fn handlers(executor: impl PgExecutor<'_>) -> Result<Vec<HandlerRow>> {
    let rows = sqlx::query(include_str!("../sql/client/list_handlers.sql")).fetch_all(executor).await.named()?;
    let read = |row: &PgRow| -> Result<HandlerRow, sqlx::Error> {
        Ok(HandlerRow {
            name: row.try_get("name")?,
            workers: row.try_get("workers")?,
            schedules: row.try_get("schedules")?,
            waiting: row.try_get("waiting")?,
            oldest_waits_for: elapsed(row, "oldest_waits_for")?,
            first_seen_at: row.try_get("first_seen_at")?,
            last_seen_at: row.try_get("last_seen_at")?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().named()
}

/// The names of all handlers that a worker has ever registered, sorted; 10,000 at most.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// assert!(watchbell::client::known_handlers(&pool).await?.contains(&"mail".to_owned()));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Denied`] for a role that may not read them, as a producer may not.
pub async fn known_handlers(executor: impl PgExecutor<'_>) -> Result<Vec<String>> {
    let query = sqlx::query_scalar("select h.name from watchbell.handlers h order by h.name limit 10000");
    query.fetch_all(executor).await.named()
}

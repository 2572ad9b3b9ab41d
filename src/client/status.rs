//! The state of everything, at one moment.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};

use super::attention::{AttentionRow, attention};
use super::queue_list::{QueueRow, queues};
use super::schedule_list::{elapsed, words};
use super::status_watches::{WatchLoadRow, watches};
use super::worker_list::{WorkerRow, workers};
use crate::db::Named;
use crate::error::Result;
use crate::run::RunId;

/// How many fire times, running and failed runs are told.
const ROWS_MAX: i64 = 100;

/// The state of a database and of all who work on it, at one moment.
///
/// ```no_run
/// # async fn example(connection: &mut sqlx::PgConnection) -> watchbell::Result<()> {
/// use watchbell::client::{self, StatusReport};
///
/// let StatusReport { database, workers, queues, attention, .. } = client::status(connection).await?;
/// println!("{database}: {} workers, {} queues, {} things to mend", workers.len(), queues.len(), attention.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct StatusReport {
    /// The version of this build.
    pub version: &'static str,
    /// The name of the database.
    pub database: String,
    /// The server's version.
    pub server_version: String,
    /// The newest version of its schema `watchbell`.
    pub schema_version: i32,
    /// The moment, by the database's clock.
    pub at: DateTime<Utc>,
    /// Workers that have not ended, the newest first.
    pub workers: Vec<WorkerRow>,
    /// Queues by name.
    pub queues: Vec<QueueRow>,
    /// Watches by name, at most 100.
    pub watches: Vec<WatchLoadRow>,
    /// What fires next, at most 100.
    pub upcoming: Vec<UpcomingRow>,
    /// What runs, the longest first, at most 100.
    pub running: Vec<RunningRow>,
    /// What failed last, of the last 7 days, at most 100.
    pub failures: Vec<FailureRow>,
    /// What needs a person, the worst first; empty when nothing does.
    pub attention: Vec<AttentionRow>,
}

/// A schedule and when it fires next.
///
/// ```
/// use watchbell::client::UpcomingRow;
///
/// fn told(UpcomingRow { name, kind, handler, queue, next_fire_at, starts_in, .. }: &UpcomingRow) -> String {
///     format!("{name} ({kind}): {handler} in {queue} at {next_fire_at}, {starts_in:?} from now")
/// }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct UpcomingRow {
    /// Its name.
    pub name: String,
    /// `cron`, `fixed_delay`, `fixed_rate` or `once`.
    pub kind: String,
    /// Who does the work.
    pub handler: String,
    /// The queue of its runs.
    pub queue: String,
    /// When it fires.
    pub next_fire_at: DateTime<Utc>,
    /// How long until then; negative when it is late.
    #[serde(serialize_with = "words")]
    pub starts_in: Option<TimeDelta>,
}

/// A run that is being executed.
///
/// ```
/// use watchbell::client::RunningRow;
///
/// fn told(run: &RunningRow) -> String {
///     let RunningRow { id, handler, queue, schedule_name, attempt, max_attempts, .. } = run;
///     let RunningRow { started_at, running_for, times_out_at, worker_id, worker, .. } = run;
///     format!(
///         "{id} {handler} of {schedule_name:?} in {queue}, {attempt} of {max_attempts}, by {worker:?} ({worker_id:?}) \
///          since {started_at:?}, {running_for:?} by now, until {times_out_at:?}"
///     )
/// }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RunningRow {
    /// Its number.
    pub id: RunId,
    /// Who does the work.
    pub handler: String,
    /// Its queue.
    pub queue: String,
    /// The schedule that made it.
    pub schedule_name: Option<String>,
    /// Which attempt this is.
    pub attempt: i32,
    /// Attempts allowed.
    pub max_attempts: i16,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// How long it has run.
    #[serde(serialize_with = "words")]
    pub running_for: Option<TimeDelta>,
    /// When it is stopped.
    pub times_out_at: Option<DateTime<Utc>>,
    /// The number of its worker.
    pub worker_id: Option<i32>,
    /// The name of its worker.
    pub worker: Option<String>,
}

/// A run that failed.
///
/// ```
/// use watchbell::client::FailureRow;
///
/// fn told(FailureRow { id, handler, queue, schedule_name, attempt, finished_at, error, retried_as, .. }: &FailureRow) -> String {
///     format!("{id} {handler} of {schedule_name:?} in {queue} at {finished_at:?}, {attempt} tries: {error:?}, {retried_as:?}")
/// }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct FailureRow {
    /// Its number.
    pub id: RunId,
    /// Who did the work.
    pub handler: String,
    /// Its queue.
    pub queue: String,
    /// The schedule that made it.
    pub schedule_name: Option<String>,
    /// How often it was tried.
    pub attempt: i32,
    /// When it was over.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The run that was made to try it again.
    pub retried_as: Option<RunId>,
}

/// Reads the state of everything as of one moment, in a read-only transaction of its own.
///
/// ```no_run
/// # async fn example(connection: &mut sqlx::PgConnection) -> watchbell::Result<()> {
/// let report = watchbell::client::status(connection).await?;
/// let slots: i32 = report.workers.iter().map(|worker| worker.slots).sum();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the database answers; also inside another transaction.
pub async fn status(connection: &mut PgConnection) -> Result<StatusReport> {
    let mut tx = connection.begin_with("begin isolation level repeatable read read only").await.named()?;
    let server = sqlx::query(include_str!("../sql/client/status_server.sql")).fetch_one(&mut *tx).await.named()?;
    let report = StatusReport {
        version: env!("CARGO_PKG_VERSION"),
        database: server.try_get("database").named()?,
        server_version: server.try_get("server_version").named()?,
        schema_version: server.try_get("schema_version").named()?,
        at: server.try_get("at").named()?,
        workers: workers(&mut *tx, false).await?,
        queues: queues(&mut *tx).await?,
        watches: watches(&mut tx, ROWS_MAX).await?,
        upcoming: rows(&mut tx, include_str!("../sql/client/status_upcoming.sql"), upcoming).await?,
        running: rows(&mut tx, include_str!("../sql/client/status_running.sql"), running).await?,
        failures: rows(&mut tx, include_str!("../sql/client/status_failures.sql"), failure).await?,
        attention: attention(&mut *tx).await?,
    };
    tx.commit().await.named()?;
    Ok(report)
}

async fn rows<T>(
    connection: &mut PgConnection,
    statement: &'static str,
    read: fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>> {
    let rows = sqlx::query(statement).bind(ROWS_MAX).fetch_all(connection).await.named()?;
    rows.iter().map(read).collect::<Result<_, _>>().named()
}

fn upcoming(row: &PgRow) -> Result<UpcomingRow, sqlx::Error> {
    Ok(UpcomingRow {
        name: row.try_get("name")?,
        kind: row.try_get("kind")?,
        handler: row.try_get("handler")?,
        queue: row.try_get("queue")?,
        next_fire_at: row.try_get("next_fire_at")?,
        starts_in: elapsed(row, "starts_in")?,
    })
}

fn running(row: &PgRow) -> Result<RunningRow, sqlx::Error> {
    Ok(RunningRow {
        id: row.try_get("id")?,
        handler: row.try_get("handler")?,
        queue: row.try_get("queue")?,
        schedule_name: row.try_get("schedule_name")?,
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        started_at: row.try_get("started_at")?,
        running_for: elapsed(row, "running_for")?,
        times_out_at: row.try_get("times_out_at")?,
        worker_id: row.try_get("worker_id")?,
        worker: row.try_get("worker")?,
    })
}

fn failure(row: &PgRow) -> Result<FailureRow, sqlx::Error> {
    Ok(FailureRow {
        id: row.try_get("id")?,
        handler: row.try_get("handler")?,
        queue: row.try_get("queue")?,
        schedule_name: row.try_get("schedule_name")?,
        attempt: row.try_get("attempt")?,
        finished_at: row.try_get("finished_at")?,
        error: row.try_get("error")?,
        retried_as: row.try_get("retried_as")?,
    })
}

//! Runs as people read them: one, or a page of those that match.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use crate::db::Named;
use crate::error::{Error, Result};
use crate::run::{RunId, Status};

/// One run, waiting, running or over.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// for run in watchbell::client::Runs::new().handler("mail").limit(10).fetch(&pool).await? {
///     println!("{} {} {:?}", run.id, run.status, run.error);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RunRow {
    /// Its number.
    pub id: RunId,
    /// Where it stands.
    #[serde(serialize_with = "word")]
    pub status: Status,
    /// Who does the work.
    pub handler: String,
    /// What it gets: a JSON object.
    pub payload: Box<RawValue>,
    /// Its queue.
    pub queue: String,
    /// 0 (runs first) to 9.
    pub priority: i16,
    /// What made it: `enqueue`, `schedule`, `catch_up`, `run_now`, `backfill` or `retry`.
    pub trigger: String,
    /// Not before this time; kept inside the years 1 to 9999.
    pub run_at: DateTime<Utc>,
    /// When it was inserted.
    pub created_at: DateTime<Utc>,
    /// The login that inserted it.
    pub created_by: String,
    /// When its last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub finished_at: Option<DateTime<Utc>>,
    /// Attempts started so far.
    pub attempt: i32,
    /// Attempts allowed.
    pub max_attempts: i16,
    /// How many of its workers were lost.
    pub crashes: i16,
    /// The number of the worker that has or had it last.
    pub claimed_by: Option<i32>,
    /// Rises at every claim.
    pub fence: i64,
    /// At most one open run has it.
    pub unique_key: Option<String>,
    /// Runs with this key share a limit.
    pub concurrency_key: Option<String>,
    /// The labels a worker must have.
    pub target: Option<String>,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// The schedule that made it.
    pub schedule_id: Option<i64>,
    /// That schedule's name at the time.
    pub schedule_name: Option<String>,
    /// The fire time it stands for.
    pub fire_at: Option<DateTime<Utc>>,
    /// The run that it repeats.
    pub retry_of: Option<RunId>,
    /// When someone asked to stop it.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// Why it failed, or last failed.
    pub error: Option<String>,
}

impl RunRow {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let payload: String = row.try_get("payload")?;
        Ok(Self {
            id: row.try_get("id")?,
            status: row.try_get::<&str, _>("status")?.parse().map_err(|e: String| sqlx::Error::Decode(e.into()))?,
            handler: row.try_get("handler")?,
            payload: RawValue::from_string(payload).map_err(|e| sqlx::Error::Decode(e.into()))?,
            queue: row.try_get("queue")?,
            priority: row.try_get("priority")?,
            trigger: row.try_get("trigger")?,
            run_at: row.try_get("run_at")?,
            created_at: row.try_get("created_at")?,
            created_by: row.try_get("created_by")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            attempt: row.try_get("attempt")?,
            max_attempts: row.try_get("max_attempts")?,
            crashes: row.try_get("crashes")?,
            claimed_by: row.try_get("claimed_by")?,
            fence: row.try_get("fence")?,
            unique_key: row.try_get("unique_key")?,
            concurrency_key: row.try_get("concurrency_key")?,
            target: row.try_get("target")?,
            tags: row.try_get("tags")?,
            schedule_id: row.try_get("schedule_id")?,
            schedule_name: row.try_get("schedule_name")?,
            fire_at: row.try_get("fire_at")?,
            retry_of: row.try_get("retry_of")?,
            cancel_requested_at: row.try_get("cancel_requested_at")?,
            error: row.try_get("error")?,
        })
    }
}

/// Reads one run.
///
/// # Errors
/// [`Error::NotFound`] for an unknown id, or one that is older than the retention.
pub async fn run(executor: impl PgExecutor<'_>, id: RunId) -> Result<RunRow> {
    let row = sqlx::query(concat!(include_str!("../sql/client/run_columns.sql"), "where r.id = $1"))
        .bind(id)
        .fetch_optional(executor)
        .await
        .named()?;
    match row {
        Some(row) => RunRow::read(&row).named(),
        None => Err(Error::no_run(id)),
    }
}

impl Error {
    /// There is no such run.
    pub(super) fn no_run(id: RunId) -> Self {
        let hint = "; list runs with: watchbell runs list".to_owned();
        Self::NotFound { kind: "run", name: id.to_string(), hint }
    }
}

fn word<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(status.as_str())
}

/// A page of runs, the newest first: all that match every filter given.
///
/// The page after it is asked for with the last id of this one as [`before`](Self::before).
#[derive(Debug, Clone, Default)]
pub struct Runs {
    status: Option<Status>,
    handler: Option<String>,
    queue: Option<String>,
    schedule: Option<String>,
    before: Option<RunId>,
    limit: Option<u32>,
}

/// The most rows of one page.
pub(super) const PAGE_MAX: u32 = 1000;

impl Runs {
    /// The 50 newest runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only with this status.
    #[must_use]
    pub fn status(self, status: Status) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Only of this handler.
    #[must_use]
    pub fn handler(self, name: impl Into<String>) -> Self {
        Self { handler: Some(name.into()), ..self }
    }

    /// Only of this queue.
    #[must_use]
    pub fn queue(self, name: impl Into<String>) -> Self {
        Self { queue: Some(name.into()), ..self }
    }

    /// Only of the schedule of this name, also of one that is deleted.
    #[must_use]
    pub fn schedule(self, name: impl Into<String>) -> Self {
        Self { schedule: Some(name.into()), ..self }
    }

    /// Only older ones: the last id of the page before.
    #[must_use]
    pub fn before(self, id: RunId) -> Self {
        Self { before: Some(id), ..self }
    }

    /// How many at most: 1 to 1000, 50 if not given.
    #[must_use]
    pub fn limit(self, rows: u32) -> Self {
        Self { limit: Some(rows), ..self }
    }

    /// Reads the page.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of range; otherwise what the database answers.
    pub async fn fetch(&self, executor: impl PgExecutor<'_>) -> Result<Vec<RunRow>> {
        let limit = page_limit(self.limit)?;
        let rows = sqlx::query(concat!(
            include_str!("../sql/client/run_columns.sql"),
            include_str!("../sql/client/list_runs.sql")
        ))
        .bind(self.status.map(Status::as_str))
        .bind(self.handler.as_deref())
        .bind(self.queue.as_deref())
        .bind(self.schedule.as_deref())
        .bind(self.before)
        .bind(limit)
        .fetch_all(executor)
        .await
        .named()?;
        rows.iter().map(RunRow::read).collect::<Result<_, _>>().named()
    }
}

/// The rows of a page, or why not.
pub(super) fn page_limit(limit: Option<u32>) -> Result<i64> {
    let limit = limit.unwrap_or(50);
    if (1..=PAGE_MAX).contains(&limit) {
        Ok(i64::from(limit))
    } else {
        Err(Error::invalid("limit", format!("{limit} is out of range 1-{PAGE_MAX}")))
    }
}

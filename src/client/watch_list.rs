//! Watches as people read them.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use super::check;
use super::run_list::page_limit;
use super::schedule_list::{elapsed, words};
use crate::db::Named;
use crate::error::{Error, Result};

/// One watch: its definition, what a worker found of its table and what became of its rows so far.
///
/// Durations are written as words (`1h30m`) when serialized.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// for watch in watchbell::client::Watches::new().fetch(&pool).await? {
///     println!("{} on {}: {} rows done", watch.name, watch.table_name, watch.done);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WatchRow {
    /// Its number.
    pub id: i64,
    /// Its name, which identifies it.
    pub name: String,
    /// The watched table, with its schema, quoted where needed.
    pub table_name: String,
    /// The columns that name a row; none is the primary key.
    pub key_columns: Option<Vec<String>>,
    /// The column with the state.
    pub status_column: String,
    /// The column with the moment of the last move.
    pub since_column: Option<String>,
    /// What is done with rows of which state.
    pub steps: Vec<WatchStep>,
    /// What the handlers get beside the row: a JSON object; `null` for a login that may not see it.
    pub payload: Box<RawValue>,
    /// `auto`, `transactional` or `leased`.
    pub mode: String,
    /// How many rows are taken at once.
    pub batch_size: i32,
    /// How many rows may be in work at once.
    pub max_running: Option<i32>,
    /// How many rows may start per `rate_period`.
    pub rate_limit: Option<i32>,
    /// See `rate_limit`.
    #[serde(serialize_with = "words")]
    pub rate_period: Option<TimeDelta>,
    /// Which rows come first.
    pub order_by: Option<String>,
    /// A condition that rows must meet besides.
    pub filter: Option<String>,
    /// How long an idle worker waits between two looks.
    #[serde(serialize_with = "words")]
    pub poll_interval: Option<TimeDelta>,
    /// How long one attempt may take; none is without limit.
    #[serde(serialize_with = "words")]
    pub timeout: Option<TimeDelta>,
    /// How long to wait before each further attempt: a JSON object, or none for the default.
    pub retry: Option<Box<RawValue>>,
    /// How often a row is tried in all.
    pub max_attempts: i16,
    /// What it is for.
    pub description: Option<String>,
    /// Who is asked when it fails.
    pub owner: Option<String>,
    /// Where it says what to do when it fails.
    pub runbook_url: Option<String>,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// The program or file that its definition comes from.
    pub managed_by: Option<String>,
    /// `pending` (a worker will look at it), `normal` or `invalid`.
    pub status: String,
    /// Why it is invalid.
    pub error: Option<String>,
    /// What a worker found in the catalog: a JSON object.
    pub plan: Option<Box<RawValue>>,
    /// When it looked.
    pub planned_at: Option<DateTime<Utc>>,
    /// Since when no row is taken.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// When it resumes by itself; kept inside the years 1 to 9999.
    pub paused_until: Option<DateTime<Utc>>,
    /// Why it is paused.
    pub pause_note: Option<String>,
    /// Rises with every edit.
    pub version: i64,
    /// When it was inserted.
    pub created_at: DateTime<Utc>,
    /// When its definition last changed.
    pub updated_at: DateTime<Utc>,
    /// The table has a trigger by which sleeping workers learn of new rows at once.
    pub wakes: bool,
    /// Rows that a worker has under a lease.
    pub in_work: i64,
    /// Rows that wait for another attempt.
    pub waiting: i64,
    /// There are more than 10,000 of both together, of which only so many were counted.
    pub capped: bool,
    /// Rows moved on so far.
    pub done: i64,
    /// Rows given up so far.
    pub failed: i64,
    /// Attempts that failed and were to be repeated.
    pub retried: i64,
    /// Rows that somebody else moved or deleted meanwhile, which were left as they were.
    pub changed: i64,
    /// When the last of these happened.
    pub last_at: Option<DateTime<Utc>>,
}

/// One step of a [`WatchRow`].
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{WatchStep, Watches};
///
/// for WatchStep { from, to, handler, .. } in Watches::new().name("hosts").fetch(&pool).await?.remove(0).steps {
///     println!("{from} -> {to} by {handler}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WatchStep {
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
    pub reason: Option<String>,
    /// What it says otherwise than its watch, such as `timeout` and `max_attempts`, as it was written.
    #[serde(default)]
    pub own: Map<String, Value>,
}

impl WatchRow {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let json = |text: Option<String>| {
            text.map(RawValue::from_string).transpose().map_err(|e| sqlx::Error::Decode(e.into()))
        };
        let payload: String = row.try_get("payload")?;
        let steps: String = row.try_get("steps")?;
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            table_name: row.try_get("table_name")?,
            key_columns: row.try_get("key_columns")?,
            status_column: row.try_get("status_column")?,
            since_column: row.try_get("since_column")?,
            steps: serde_json::from_str(&steps).map_err(|e| sqlx::Error::Decode(e.into()))?,
            payload: RawValue::from_string(payload).map_err(|e| sqlx::Error::Decode(e.into()))?,
            mode: row.try_get("mode")?,
            batch_size: row.try_get("batch_size")?,
            max_running: row.try_get("max_running")?,
            rate_limit: row.try_get("rate_limit")?,
            rate_period: elapsed(row, "rate_period")?,
            order_by: row.try_get("order_by")?,
            filter: row.try_get("filter")?,
            poll_interval: elapsed(row, "poll_interval")?,
            timeout: elapsed(row, "timeout")?,
            retry: json(row.try_get("retry")?)?,
            max_attempts: row.try_get("max_attempts")?,
            description: row.try_get("description")?,
            owner: row.try_get("owner")?,
            runbook_url: row.try_get("runbook_url")?,
            tags: row.try_get("tags")?,
            managed_by: row.try_get("managed_by")?,
            status: row.try_get("status")?,
            error: row.try_get("error")?,
            plan: json(row.try_get("plan")?)?,
            planned_at: row.try_get("planned_at")?,
            paused_at: row.try_get("paused_at")?,
            paused_by: row.try_get("paused_by")?,
            paused_until: row.try_get("paused_until")?,
            pause_note: row.try_get("pause_note")?,
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            wakes: row.try_get("wakes")?,
            in_work: row.try_get("in_work")?,
            waiting: row.try_get("waiting")?,
            capped: row.try_get("capped")?,
            done: row.try_get("done")?,
            failed: row.try_get("failed")?,
            retried: row.try_get("retried")?,
            changed: row.try_get("changed")?,
            last_at: row.try_get("last_at")?,
        })
    }
}

/// The words of a watch's status.
const STATUSES: [&str; 3] = ["pending", "normal", "invalid"];

/// A page of watches by name: all that match every filter given.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::Watches;
///
/// for watch in Watches::new().status("invalid").limit(100).fetch(&pool).await? {
///     println!("{}: {}", watch.name, watch.error.unwrap_or_default());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Watches {
    status: Option<String>,
    name: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

impl Watches {
    /// The first 50 watches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only with this status: `pending`, `normal` or `invalid`.
    #[must_use]
    pub fn status(self, status: impl Into<String>) -> Self {
        Self { status: Some(status.into()), ..self }
    }

    /// Only the one of this name.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Only those after this name: the last one of the page before.
    #[must_use]
    pub fn after(self, name: impl Into<String>) -> Self {
        Self { after: Some(name.into()), ..self }
    }

    /// How many at most: 1 to 1000, 50 if not given.
    #[must_use]
    pub fn limit(self, rows: u32) -> Self {
        Self { limit: Some(rows), ..self }
    }

    /// Reads the page.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown status or a limit out of range; otherwise what the database answers.
    pub async fn fetch(&self, executor: impl PgExecutor<'_>) -> Result<Vec<WatchRow>> {
        if let Some(status) = self.status.as_deref().filter(|status| !STATUSES.contains(status)) {
            let problem = format!("\"{}\" is not one of {}", check::shown(status), STATUSES.join(", "));
            return Err(Error::invalid("status", problem));
        }
        let rows = sqlx::query(include_str!("../sql/client/list_watches.sql"))
            .bind(self.status.as_deref())
            .bind(self.name.as_deref())
            .bind(self.after.as_deref())
            .bind(page_limit(self.limit)?)
            .fetch_all(executor)
            .await
            .named()?;
        rows.iter().map(WatchRow::read).collect::<Result<_, _>>().named()
    }
}

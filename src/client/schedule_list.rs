//! Schedules as people read them.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgExecutor, Row};

use super::check;
use super::run_list::page_limit;
use crate::db::Named;
use crate::duration;
use crate::error::{Error, Result};
use crate::schedule::{Schedule, Spec};

/// One schedule: its definition and what became of it so far.
///
/// Durations are written as words (`1h30m`) when serialized.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// for schedule in watchbell::client::Schedules::new().fetch(&pool).await? {
///     println!("{} {} {:?}", schedule.name, schedule.spec(), schedule.next_fire_at);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ScheduleRow {
    /// Its number.
    pub id: i64,
    /// Its name, which identifies it.
    pub name: String,
    /// `cron`, `fixed_delay`, `fixed_rate` or `once`.
    pub kind: String,
    /// The expression of kind `cron`.
    pub cron: Option<String>,
    /// The delay of kind `fixed_delay`.
    #[serde(serialize_with = "words")]
    pub fixed_delay: Option<TimeDelta>,
    /// The period of kind `fixed_rate`.
    #[serde(serialize_with = "words")]
    pub fixed_rate: Option<TimeDelta>,
    /// The time of kind `once`; kept inside the years 1 to 9999.
    pub run_at: Option<DateTime<Utc>>,
    /// The zone of the wall clock that `cron` goes by.
    pub timezone: String,
    /// Who does the work.
    pub handler: String,
    /// What each run gets: a JSON object.
    pub payload: Box<RawValue>,
    /// The queue of its runs.
    pub queue: String,
    /// 0 (runs first) to 9.
    pub priority: i16,
    /// Attempts allowed for each run.
    pub max_attempts: i16,
    /// How long one attempt may take; none is without limit.
    #[serde(serialize_with = "words")]
    pub timeout: Option<TimeDelta>,
    /// What becomes of a fire time while its runs are open.
    pub overlap: String,
    /// What becomes of fire times that passed while no worker could act.
    pub misfire: String,
    /// What happens at clock changes: `once` or `literal`.
    pub dst: String,
    /// How long to wait before each further attempt: a JSON object, or none for the default.
    pub retry: Option<Box<RawValue>>,
    /// How many open runs count as too many for `overlap`.
    pub max_running: i32,
    /// How late misfire `skip` may still act.
    #[serde(serialize_with = "words")]
    pub misfire_grace: Option<TimeDelta>,
    /// How far back misfire `catch_up` reaches.
    #[serde(serialize_with = "words")]
    pub catch_up_window: Option<TimeDelta>,
    /// How many runs misfire `catch_up` makes at most.
    pub catch_up_limit: i32,
    /// How long after it is due a run may still start; none is however late.
    #[serde(serialize_with = "words")]
    pub start_deadline: Option<TimeDelta>,
    /// By how much at most a run is put off after its fire time.
    #[serde(serialize_with = "words")]
    pub jitter: Option<TimeDelta>,
    /// After how many failed runs in a row it pauses by itself.
    pub pause_after_failures: Option<i32>,
    /// Runs with this key share a limit of how many run at a time.
    pub concurrency_key: Option<String>,
    /// `after_period` or `at_once`.
    pub first_fire: String,
    /// Nothing fires before it.
    pub starts_at: Option<DateTime<Utc>>,
    /// Nothing fires at or after it.
    pub ends_at: Option<DateTime<Utc>>,
    /// How many runs it may make in all.
    pub max_fires: Option<i64>,
    /// How many runs it has made.
    pub fires_count: i64,
    /// Where it says what to do when it fails.
    pub runbook_url: Option<String>,
    /// Whether its run is restarted on any end.
    pub keep_alive: bool,
    /// How many runs of it are kept alive; otherwise 1.
    pub copies: i32,
    /// Since when one of those ends again and again within a minute of its start.
    pub crash_loop_since: Option<DateTime<Utc>>,
    /// How a worker's clock at its next fire time differs from the database's.
    pub tz_mismatch: Option<String>,
    /// The labels a worker must have, or `all`.
    pub target: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Who is asked when it fails.
    pub owner: Option<String>,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// The program or file that its definition comes from.
    pub managed_by: Option<String>,
    /// `pending` (a worker will plan it), `normal`, `done` or `invalid`.
    pub status: String,
    /// Why it is invalid.
    pub error: Option<String>,
    /// The next fire time; none while it waits for its run to end, and when it is done or invalid.
    pub next_fire_at: Option<DateTime<Utc>>,
    /// How long until then by the database's clock; negative when it is overdue.
    #[serde(serialize_with = "words")]
    pub fires_in: Option<TimeDelta>,
    /// The last fire time that is accounted for.
    pub last_fire_at: Option<DateTime<Utc>>,
    /// When its last run started.
    pub last_started_at: Option<DateTime<Utc>>,
    /// When a run of it last ended well.
    pub last_success_at: Option<DateTime<Utc>>,
    /// When a run of it last ended.
    pub last_finished_at: Option<DateTime<Utc>>,
    /// How long that run took.
    #[serde(serialize_with = "words")]
    pub last_duration: Option<TimeDelta>,
    /// How it ended: `normal`, `failed` or `cancelled`.
    pub last_status: Option<String>,
    /// Failed runs since the last that ended well.
    pub consecutive_failures: i32,
    /// Since when it is paused.
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
}

impl ScheduleRow {
    /// When it fires, in the words of its kind: `0 2 * * *`, `5m` or a time.
    pub fn spec(&self) -> String {
        let period = self.fixed_delay.or(self.fixed_rate).map(duration::words);
        let at = || self.run_at.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
        self.cron.clone().or(period).or_else(at).unwrap_or_default()
    }

    /// Its next `n` fire times as far as they are certain: one of `fixed_delay`, none while it is paused.
    ///
    /// A schedule that no worker has planned yet counts from when it was written.
    pub fn upcoming(&self, n: usize) -> Vec<DateTime<Utc>> {
        let dst = self.dst.parse().unwrap_or_default();
        let spec = match (&self.cron, self.fixed_delay, self.fixed_rate, self.run_at) {
            (Some(expression), ..) => Spec::cron(expression, &self.timezone, dst).ok(),
            (_, Some(delay), ..) => Some(Spec::FixedDelay(delay)),
            (_, _, Some(period), _) => Some(Spec::FixedRate(period)),
            (.., at) => at.map(Spec::Once),
        };
        let Some(spec) = spec.filter(|_| self.paused_at.is_none()) else { return vec![] };
        let mut schedule = Schedule::new(self.id, spec, self.updated_at);
        schedule.first_fire = self.first_fire.parse().unwrap_or_default();
        (schedule.starts_at, schedule.ends_at) = (self.starts_at, self.ends_at);
        let left = self.max_fires.map_or(n, |most| usize::try_from(most - self.fires_count).unwrap_or(0).min(n));
        match self.next_fire_at {
            Some(next) if matches!(schedule.spec, Spec::Cron(_) | Spec::FixedRate(_)) => {
                schedule.anchor_at = Some(next);
                schedule.upcoming(next - TimeDelta::microseconds(1), left)
            }
            Some(next) => vec![next],
            None if self.status == "pending" => schedule.upcoming(self.updated_at - TimeDelta::microseconds(1), left),
            None => vec![],
        }
    }

    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let payload: String = row.try_get("payload")?;
        let retry: Option<String> = row.try_get("retry")?;
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            kind: row.try_get("kind")?,
            cron: row.try_get("cron")?,
            fixed_delay: elapsed(row, "fixed_delay")?,
            fixed_rate: elapsed(row, "fixed_rate")?,
            run_at: row.try_get("run_at")?,
            timezone: row.try_get("timezone")?,
            handler: row.try_get("handler")?,
            payload: RawValue::from_string(payload).map_err(|e| sqlx::Error::Decode(e.into()))?,
            queue: row.try_get("queue")?,
            priority: row.try_get("priority")?,
            max_attempts: row.try_get("max_attempts")?,
            timeout: elapsed(row, "timeout")?,
            overlap: row.try_get("overlap")?,
            misfire: row.try_get("misfire")?,
            dst: row.try_get("dst")?,
            retry: retry.map(RawValue::from_string).transpose().map_err(|e| sqlx::Error::Decode(e.into()))?,
            max_running: row.try_get("max_running")?,
            misfire_grace: elapsed(row, "misfire_grace")?,
            catch_up_window: elapsed(row, "catch_up_window")?,
            catch_up_limit: row.try_get("catch_up_limit")?,
            start_deadline: elapsed(row, "start_deadline")?,
            jitter: elapsed(row, "jitter")?,
            pause_after_failures: row.try_get("pause_after_failures")?,
            concurrency_key: row.try_get("concurrency_key")?,
            first_fire: row.try_get("first_fire")?,
            starts_at: row.try_get("starts_at")?,
            ends_at: row.try_get("ends_at")?,
            max_fires: row.try_get("max_fires")?,
            fires_count: row.try_get("fires_count")?,
            runbook_url: row.try_get("runbook_url")?,
            keep_alive: row.try_get("keep_alive")?,
            copies: row.try_get("copies")?,
            crash_loop_since: row.try_get("crash_loop_since")?,
            tz_mismatch: row.try_get("tz_mismatch")?,
            target: row.try_get("target")?,
            description: row.try_get("description")?,
            owner: row.try_get("owner")?,
            tags: row.try_get("tags")?,
            managed_by: row.try_get("managed_by")?,
            status: row.try_get("status")?,
            error: row.try_get("error")?,
            next_fire_at: row.try_get("next_fire_at")?,
            fires_in: elapsed(row, "fires_in")?,
            last_fire_at: row.try_get("last_fire_at")?,
            last_started_at: row.try_get("last_started_at")?,
            last_success_at: row.try_get("last_success_at")?,
            last_finished_at: row.try_get("last_finished_at")?,
            last_duration: elapsed(row, "last_duration")?,
            last_status: row.try_get("last_status")?,
            consecutive_failures: row.try_get("consecutive_failures")?,
            paused_at: row.try_get("paused_at")?,
            paused_by: row.try_get("paused_by")?,
            paused_until: row.try_get("paused_until")?,
            pause_note: row.try_get("pause_note")?,
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// An interval as elapsed time: a day is 24 hours. Months are refused before they are stored.
pub(super) fn elapsed(row: &PgRow, column: &str) -> Result<Option<TimeDelta>, sqlx::Error> {
    let interval: Option<PgInterval> = row.try_get(column)?;
    Ok(interval.map(|i| TimeDelta::days(i64::from(i.days)) + TimeDelta::microseconds(i.microseconds)))
}

pub(super) fn words<S: Serializer>(value: &Option<TimeDelta>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(duration::words).serialize(serializer)
}

/// The words of a schedule's status.
const STATUSES: [&str; 4] = ["pending", "normal", "done", "invalid"];

/// A page of schedules by name: all that match every filter given.
///
/// The page after it is asked for with the last name of this one as [`after`](Self::after).
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::Schedules;
///
/// let page = Schedules::new().status("invalid").queue("mails").limit(100);
/// for schedule in page.fetch(&pool).await? {
///     println!("{}: {}", schedule.name, schedule.error.unwrap_or_default());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Schedules {
    status: Option<String>,
    handler: Option<String>,
    queue: Option<String>,
    name: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

impl Schedules {
    /// The first 50 schedules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only with this status: `pending`, `normal`, `done` or `invalid`.
    #[must_use]
    pub fn status(self, status: impl Into<String>) -> Self {
        Self { status: Some(status.into()), ..self }
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
    pub async fn fetch(&self, executor: impl PgExecutor<'_>) -> Result<Vec<ScheduleRow>> {
        if let Some(status) = self.status.as_deref().filter(|status| !STATUSES.contains(status)) {
            let problem = format!("\"{}\" is not one of {}", check::shown(status), STATUSES.join(", "));
            return Err(Error::invalid("status", problem));
        }
        let rows = sqlx::query(include_str!("../sql/client/list_schedules.sql"))
            .bind(self.status.as_deref())
            .bind(self.handler.as_deref())
            .bind(self.queue.as_deref())
            .bind(self.name.as_deref())
            .bind(self.after.as_deref())
            .bind(page_limit(self.limit)?)
            .fetch_all(executor)
            .await
            .named()?;
        rows.iter().map(ScheduleRow::read).collect::<Result<_, _>>().named()
    }
}

//! One schedule to be inserted, or declared again at each start.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgExecutor, Postgres, Row};

use super::check;
use super::new_run::Timeout;
use super::when::{self, Moment, When, options};
use crate::db::Named;
use crate::error::{Error, Result};
use crate::schedule::{Dst, FirstFire, Misfire, Overlap};

/// A schedule that is wanted: what starts when, under a name that identifies it.
///
/// What is not said has the default of the columns of `watchbell.schedules`: time zone UTC, queue
/// `default`, priority 5, 3 attempts, an hour's timeout, overlap `allow`, misfire `fire_once`.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::NewSchedule;
/// use watchbell::{cron, fixed_rate, hours};
///
/// let when = cron("0 2 * * *").timezone("Europe/Paris").payload(&serde_json::json!({"region": "eu"}));
/// NewSchedule::new("nightly", when, "report").upsert(&pool).await?;
///
/// let beat = NewSchedule::fixed_rate("beat", hours(1), "check")
///     .queue("slow")
///     .retry(&serde_json::json!({"strategy": "fixed", "base": "30s"}))?
///     .managed_by("monitoring");
/// let id = beat.insert(&pool).await?; // Conflict if there is one of this name
/// # let _ = id;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NewSchedule {
    pub(super) name: String,
    pub(super) handler: String,
    when: When,
    pub(super) managed_by: Option<String>,
    pub(super) declared_version: Option<i64>,
}

/// What [`NewSchedule::upsert`] did.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{Change, NewSchedule};
///
/// match NewSchedule::cron("nightly", "0 2 * * *", "report").upsert(&pool).await? {
///     Change::Inserted => println!("new"),
///     Change::Updated => println!("another definition than before"),
///     Change::Unchanged => println!("as it was"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was none of this name.
    Inserted,
    /// Its definition is the new one; it is planned anew only if its times change.
    Updated,
    /// Its definition was the same already, or a newer `declared_version` stands.
    Unchanged,
}

options!(NewSchedule.when);

impl NewSchedule {
    /// A schedule of this name that starts this handler; [`When`] has its times and options.
    pub fn new(name: impl Into<String>, when: When, handler: impl Into<String>) -> Self {
        Self { name: name.into(), handler: handler.into(), when, managed_by: None, declared_version: None }
    }

    /// Fires when the wall clock matches: `0 2 * * *`, with seconds `*/10 * * * * *`, or `@daily`.
    pub fn cron(name: impl Into<String>, expression: impl Into<String>, handler: impl Into<String>) -> Self {
        Self::new(name, when::cron(expression), handler)
    }

    /// Fires so long after its last run ended; at least 1 s.
    pub fn fixed_delay(name: impl Into<String>, delay: Duration, handler: impl Into<String>) -> Self {
        Self::new(name, when::fixed_delay(delay), handler)
    }

    /// Fires every so often, whether or not its last run ended; at least 1 s.
    pub fn fixed_rate(name: impl Into<String>, period: Duration, handler: impl Into<String>) -> Self {
        Self::new(name, when::fixed_rate(period), handler)
    }

    /// Fires once, late if need be.
    pub fn once(name: impl Into<String>, at: DateTime<Utc>, handler: impl Into<String>) -> Self {
        Self::new(name, when::once(at), handler)
    }

    /// What each run gets: any value that becomes a JSON object of at most 1 MiB.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be written as JSON, is no object or is too large.
    pub fn payload(self, payload: &(impl Serialize + ?Sized)) -> Result<Self> {
        Self { when: self.when.payload(payload), ..self }.unless_refused()
    }

    /// As [`payload`](Self::payload), from JSON text, which is sent as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not JSON, no object or too large.
    pub fn payload_json(self, text: &str) -> Result<Self> {
        Self { when: self.when.payload_json(text), ..self }.unless_refused()
    }

    /// How long to wait before each further attempt: `{"strategy": "fixed", "base": "30s"}`.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the key at fault, see [`RetryPolicy::from_json`](crate::retry::RetryPolicy::from_json).
    pub fn retry(self, policy: &(impl Serialize + ?Sized)) -> Result<Self> {
        Self { when: self.when.retry(policy), ..self }.unless_refused()
    }

    /// The program or file that its definition comes from.
    #[must_use]
    pub fn managed_by(self, name: impl Into<String>) -> Self {
        Self { managed_by: Some(name.into()), ..self }
    }

    /// Rises with the declaring program: an upsert with a lower one than the schedule's changes nothing.
    #[must_use]
    pub fn declared_version(self, version: i64) -> Self {
        Self { declared_version: Some(version), ..self }
    }

    /// Inserts it; answers its number.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one of this name; [`Error::Invalid`] before anything is sent;
    /// otherwise what the database answers.
    pub async fn insert(&self, executor: impl PgExecutor<'_>) -> Result<i64> {
        self.check()?;
        let statement = sqlx::query(concat!(include_str!("../sql/client/new_schedule.sql"), "returning id"));
        match self.bind(statement).fetch_one(executor).await.named() {
            Err(Error::Conflict(_)) => Err(Error::Conflict(format!("schedule \"{}\" exists already", self.name))),
            row => row?.try_get(0).named(),
        }
    }

    /// Inserts it, or makes the one of this name the same; what is the same already stays untouched.
    ///
    /// For programs that declare their schedules at each start: options not said here go back to their
    /// defaults. What people do to it beside its definition, such as a pause, stays.
    ///
    /// # Errors
    /// [`Error::Invalid`] before anything is sent; otherwise what the database answers.
    pub async fn upsert(&self, executor: impl PgExecutor<'_>) -> Result<Change> {
        self.check()?;
        let statement = sqlx::query(concat!(
            include_str!("../sql/client/new_schedule.sql"),
            include_str!("../sql/client/upsert_schedule.sql")
        ));
        let row = self.bind(statement).fetch_optional(executor).await.named()?;
        let inserted: Option<bool> = row.map(|row| row.try_get(0)).transpose().named()?;
        Ok(match inserted {
            Some(true) => Change::Inserted,
            Some(false) => Change::Updated,
            None => Change::Unchanged,
        })
    }

    fn bind<'q>(&'q self, statement: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let statement = self.when.bind(&self.name, &self.handler, statement);
        statement
            .bind(self.managed_by.as_deref())
            .bind(self.declared_version)
            .bind(self.when.callback_url.as_deref())
            .bind(self.when.notify_channel.as_deref())
            .bind(self.when.keep_alive)
            .bind(self.when.copies)
    }

    pub(super) fn subject(&self) -> String {
        format!("schedule \"{}\"", check::shown(&self.name))
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !check::is_name(&self.name) {
            return Err(Error::invalid(self.subject(), "this is not a valid name"));
        }
        self.when.check().map_err(|problem| Error::invalid(self.subject(), problem))
    }

    fn unless_refused(self) -> Result<Self> {
        match self.when.problem() {
            None => Ok(self),
            Some(problem) => Err(Error::invalid(self.subject(), problem)),
        }
    }
}

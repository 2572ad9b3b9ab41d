//! One schedule to be inserted, or declared again at each start.

mod options;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgExecutor, Postgres, Row};

use super::check;
use super::new_run::{Timeout, interval, json_text, retry_text};
use crate::db::Named;
use crate::error::{Error, Result};
use crate::schedule::{Dst, FirstFire, Misfire, Overlap, Spec};

/// A schedule that is wanted: what starts when, under a name that identifies it.
///
/// What is not said has the default of the columns of `watchbell.schedules`: time zone UTC, queue
/// `default`, priority 5, 3 attempts, an hour's timeout, overlap `allow`, misfire `fire_once`.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    name: String,
    when: When,
    handler: String,
    timezone: String,
    dst: Dst,
    /// JSON text; `None` is an empty object.
    payload: Option<String>,
    queue: Option<String>,
    priority: Option<i16>,
    max_attempts: Option<i16>,
    retry: Option<String>,
    timeout: Timeout,
    overlap: Overlap,
    max_running: Option<i32>,
    misfire: Misfire,
    start_deadline: Option<Duration>,
    jitter: Option<Duration>,
    pause_after_failures: Option<i32>,
    concurrency_key: Option<String>,
    first_fire: FirstFire,
    starts_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    max_fires: Option<i64>,
    target: Option<String>,
    description: Option<String>,
    owner: Option<String>,
    runbook_url: Option<String>,
    tags: Vec<String>,
    managed_by: Option<String>,
    declared_version: Option<i64>,
}

#[derive(Debug, Clone)]
enum When {
    Cron(String),
    FixedDelay(Duration),
    FixedRate(Duration),
    Once(DateTime<Utc>),
}

/// What [`NewSchedule::upsert`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was none of this name.
    Inserted,
    /// Its definition is the new one; it is planned anew only if its times change.
    Updated,
    /// Its definition was the same already, or a newer `declared_version` stands.
    Unchanged,
}

impl NewSchedule {
    /// Fires when the wall clock matches: `0 2 * * *`, with seconds `*/10 * * * * *`, or `@daily`.
    pub fn cron(name: impl Into<String>, expression: impl Into<String>, handler: impl Into<String>) -> Self {
        Self::new(name.into(), When::Cron(expression.into()), handler.into())
    }

    /// Fires so long after its last run ended; at least 1 s.
    pub fn fixed_delay(name: impl Into<String>, delay: Duration, handler: impl Into<String>) -> Self {
        Self::new(name.into(), When::FixedDelay(delay), handler.into())
    }

    /// Fires every so often, whether or not its last run ended; at least 1 s.
    pub fn fixed_rate(name: impl Into<String>, period: Duration, handler: impl Into<String>) -> Self {
        Self::new(name.into(), When::FixedRate(period), handler.into())
    }

    /// Fires once, late if need be.
    pub fn once(name: impl Into<String>, at: DateTime<Utc>, handler: impl Into<String>) -> Self {
        Self::new(name.into(), When::Once(at), handler.into())
    }

    fn new(name: String, when: When, handler: String) -> Self {
        Self {
            name,
            when,
            handler,
            timezone: "UTC".to_owned(),
            dst: Dst::default(),
            payload: None,
            queue: None,
            priority: None,
            max_attempts: None,
            retry: None,
            timeout: Timeout::Default,
            overlap: Overlap::default(),
            max_running: None,
            misfire: Misfire::FireOnce,
            start_deadline: None,
            jitter: None,
            pause_after_failures: None,
            concurrency_key: None,
            first_fire: FirstFire::default(),
            starts_at: None,
            ends_at: None,
            max_fires: None,
            target: None,
            description: None,
            owner: None,
            runbook_url: None,
            tags: Vec::new(),
            managed_by: None,
            declared_version: None,
        }
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

    /// In the order of the statement's columns.
    fn bind<'q>(&'q self, statement: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let (cron, delay, rate, at) = match &self.when {
            When::Cron(expression) => (Some(expression), None, None, None),
            When::FixedDelay(delay) => (None, Some(interval(*delay)), None, None),
            When::FixedRate(period) => (None, None, Some(interval(*period)), None),
            When::Once(at) => (None, None, None, Some(*at)),
        };
        let (misfire, grace, window, limit) = match self.misfire {
            Misfire::FireOnce => ("fire_once", None, None, None),
            Misfire::Skip { grace } => ("skip", Some(grace), None, None),
            Misfire::CatchUp { window, limit } => ("catch_up", None, Some(window), Some(i64::from(limit))),
        };
        statement
            .bind(&self.name)
            .bind(cron)
            .bind(delay)
            .bind(rate)
            .bind(at)
            .bind(&self.timezone)
            .bind(self.dst.as_str())
            .bind(&self.handler)
            .bind(self.payload.as_deref())
            .bind(self.queue.as_deref())
            .bind(self.priority)
            .bind(self.max_attempts)
            .bind(self.retry.as_deref())
            .bind(self.timeout.interval())
            .bind(self.overlap.as_str())
            .bind(self.max_running)
            .bind(misfire)
            .bind(grace)
            .bind(window)
            .bind(limit)
            .bind(self.start_deadline.map(interval))
            .bind(self.jitter.map(interval))
            .bind(self.pause_after_failures)
            .bind(self.concurrency_key.as_deref())
            .bind(self.first_fire.as_str())
            .bind(self.starts_at)
            .bind(self.ends_at)
            .bind(self.max_fires)
            .bind(self.target.as_deref())
            .bind(self.description.as_deref())
            .bind(self.owner.as_deref())
            .bind(self.runbook_url.as_deref())
            .bind(&self.tags)
            .bind(self.managed_by.as_deref())
            .bind(self.declared_version)
    }

    fn subject(&self) -> String {
        format!("schedule \"{}\"", check::shown(&self.name))
    }

    /// What the database cannot say at once, or would say of a row it cannot even receive; the rest is its own.
    fn check(&self) -> Result<()> {
        self.problem().map_err(|problem| Error::invalid(self.subject(), problem))
    }

    fn problem(&self) -> Result<(), String> {
        if !check::is_name(&self.name) {
            return Err("this is not a valid name".to_owned());
        }
        match &self.when {
            When::Cron(text) => {
                let spec = Spec::cron(text, &self.timezone, self.dst).map_err(|e| e.to_string())?;
                if matches!(&spec, Spec::Cron(cron) if cron.never_fires()) {
                    return Err(format!("invalid cron expression \"{}\": no date matches it", check::shown(text)));
                }
            }
            When::FixedDelay(delay) => check::interval("fixed_delay", *delay, Duration::from_secs(1))?,
            When::FixedRate(period) => check::interval("fixed_rate", *period, Duration::from_secs(1))?,
            When::Once(at) => check::time("run_at", *at)?,
        }
        if let Timeout::Of(timeout) = self.timeout {
            check::interval("timeout", timeout, Duration::from_millis(1))?;
        }
        self.jitter.map_or(Ok(()), |jitter| check::interval("jitter", jitter, Duration::ZERO))?;
        self.start_deadline
            .map_or(Ok(()), |limit| check::interval("start_deadline", limit, Duration::from_millis(1)))?;
        self.starts_at.map_or(Ok(()), |at| check::time("starts_at", at))?;
        self.ends_at.map_or(Ok(()), |at| check::time("ends_at", at))
    }
}

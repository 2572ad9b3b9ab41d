//! One run to be inserted.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;

use super::check;
use crate::db::Named;
use crate::error::{Error, Result};
use crate::retry::RetryPolicy;
use crate::run::RunId;

/// A run that is wanted: which handler, with what payload, when and how.
///
/// What is not said has the default of the columns of `watchbell.runs`: queue `default`, priority 5,
/// at once, 3 attempts, an hour's timeout.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub(super) handler: String,
    /// JSON text; `None` is an empty object.
    pub(super) payload: Option<String>,
    pub(super) queue: Option<String>,
    pub(super) priority: Option<i16>,
    pub(super) start: Start,
    pub(super) max_attempts: Option<i16>,
    pub(super) retry: Option<String>,
    pub(super) timeout: Timeout,
    pub(super) start_deadline: Option<DateTime<Utc>>,
    pub(super) unique_key: Option<String>,
    pub(super) concurrency_key: Option<String>,
    pub(super) target: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) callback_url: Option<String>,
    pub(super) notify_channel: Option<String>,
}

/// When a run is due.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    AtOnce,
    At(DateTime<Utc>),
    /// So long after now, by the database's clock.
    In(Duration),
}

/// How long one attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Timeout {
    /// The columns' own default.
    Default,
    Of(Duration),
    None,
}

impl Timeout {
    /// The value of a column `timeout`, where NULL means none.
    pub(super) fn interval(self) -> Option<PgInterval> {
        match self {
            Self::Default => Some(interval(Duration::from_secs(60 * 60))),
            Self::Of(timeout) => Some(interval(timeout)),
            Self::None => None,
        }
    }
}

/// Elapsed time as PostgreSQL stores it: whole microseconds, no days or months.
pub(super) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

/// Any value as JSON text; text that is JSON already (a [`RawValue`]) passes as it is.
pub(super) fn json_text(field: &str, value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::invalid(field, format!("cannot be written as JSON: {e}")))
}

/// A retry policy as JSON text, checked.
pub(super) fn retry_text(subject: &str, policy: &(impl Serialize + ?Sized)) -> Result<String> {
    let text = json_text(subject, policy)?;
    RetryPolicy::from_str(&text).map_err(|e| Error::invalid(subject, e.to_string()))?;
    Ok(text)
}

impl NewRun {
    /// A run of this handler, with an empty payload and the defaults of the queue `default`.
    pub fn new(handler: impl Into<String>) -> Self {
        Self {
            handler: handler.into(),
            payload: None,
            queue: None,
            priority: None,
            start: Start::AtOnce,
            max_attempts: None,
            retry: None,
            timeout: Timeout::Default,
            start_deadline: None,
            unique_key: None,
            concurrency_key: None,
            target: None,
            tags: Vec::new(),
            callback_url: None,
            notify_channel: None,
        }
    }

    /// What the handler gets: any value that becomes a JSON object of at most 1 MiB.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be written as JSON, is no object or is too large.
    pub fn payload(self, payload: &(impl Serialize + ?Sized)) -> Result<Self> {
        let text = json_text(&self.subject(), payload)?;
        check::payload(&text).map_err(|problem| Error::invalid(self.subject(), problem))?;
        Ok(Self { payload: Some(text), ..self })
    }

    /// As [`payload`](Self::payload), from JSON text, which is sent as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not JSON, no object or too large.
    pub fn payload_json(self, text: &str) -> Result<Self> {
        let raw: &RawValue = serde_json::from_str(text)
            .map_err(|e| Error::invalid(self.subject(), format!("payload is not valid JSON: {e}")))?;
        self.payload(raw)
    }

    /// The queue; it is made if it does not exist. 1 to 128 letters, digits and `. _ : -`.
    #[must_use]
    pub fn queue(self, name: impl Into<String>) -> Self {
        Self { queue: Some(name.into()), ..self }
    }

    /// 0 (runs first) to 9.
    #[must_use]
    pub fn priority(self, priority: i16) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// Not before this time.
    #[must_use]
    pub fn run_at(self, at: DateTime<Utc>) -> Self {
        Self { start: Start::At(at), ..self }
    }

    /// Not before this long from now, by the database's clock.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { start: Start::In(delay), ..self }
    }

    /// How often it is tried in all, 1 to 100; 1 means that it never starts twice.
    #[must_use]
    pub fn max_attempts(self, attempts: i16) -> Self {
        Self { max_attempts: Some(attempts), ..self }
    }

    /// How long to wait before each further attempt: `{"strategy": "fixed", "base": "30s"}`.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the key at fault, see [`RetryPolicy::from_json`](crate::retry::RetryPolicy::from_json).
    pub fn retry(self, policy: &(impl Serialize + ?Sized)) -> Result<Self> {
        let text = retry_text(&self.subject(), policy)?;
        Ok(Self { retry: Some(text), ..self })
    }

    /// How long one attempt may take; `None` is without limit.
    #[must_use]
    pub fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { timeout: timeout.into().map_or(Timeout::None, Timeout::Of), ..self }
    }

    /// Not started after this time: it ends as cancelled instead.
    #[must_use]
    pub fn start_deadline(self, deadline: DateTime<Utc>) -> Self {
        Self { start_deadline: Some(deadline), ..self }
    }

    /// At most one open run (waiting or running) has this key; 1 to 256 bytes.
    #[must_use]
    pub fn unique_key(self, key: impl Into<String>) -> Self {
        Self { unique_key: Some(key.into()), ..self }
    }

    /// Runs with this key share a limit of how many run at a time (1 unless set); 1 to 256 bytes.
    #[must_use]
    pub fn concurrency_key(self, key: impl Into<String>) -> Self {
        Self { concurrency_key: Some(key.into()), ..self }
    }

    /// Only workers with these labels run it: `label=value[,label=value]`, such as `zone=eu`.
    #[must_use]
    pub fn target(self, selector: impl Into<String>) -> Self {
        Self { target: Some(selector.into()), ..self }
    }

    /// Words for people to filter by; at most 100 and 8192 bytes.
    #[must_use]
    pub fn tags<T: Into<String>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        Self { tags: tags.into_iter().map(Into::into).collect(), ..self }
    }

    /// Its end is posted there as JSON, by a run of the handler `http`; `http://` or `https://`, at most 2048 bytes.
    #[must_use]
    pub fn callback_url(self, url: impl Into<String>) -> Self {
        Self { callback_url: Some(url.into()), ..self }
    }

    /// Its end is told on this channel by NOTIFY, in the transaction that records it; 1 to 63 bytes.
    #[must_use]
    pub fn notify_channel(self, channel: impl Into<String>) -> Self {
        Self { notify_channel: Some(channel.into()), ..self }
    }

    /// Inserts it through the view `watchbell.runs`.
    ///
    /// `None`: an open run has its unique key, and nothing is inserted.
    ///
    /// # Errors
    /// [`Error::Invalid`] before anything is sent; otherwise what the database answers.
    pub async fn insert(&self, executor: impl PgExecutor<'_>) -> Result<Option<RunId>> {
        let target = self.check()?;
        let (run_at, delay) = match self.start {
            Start::AtOnce => (None, None),
            Start::At(at) => (Some(at), None),
            Start::In(delay) => (None, Some(delay.as_micros() as f64)),
        };
        sqlx::query_scalar(include_str!("../sql/client/new_run.sql"))
            .bind(&self.handler)
            .bind(self.payload.as_deref())
            .bind(self.queue.as_deref())
            .bind(self.priority)
            .bind(run_at)
            .bind(delay.unwrap_or(0.0))
            .bind(self.max_attempts)
            .bind(self.retry.as_deref())
            .bind(self.timeout.interval())
            .bind(self.start_deadline)
            .bind(self.unique_key.as_deref())
            .bind(self.concurrency_key.as_deref())
            .bind(target)
            .bind((!self.tags.is_empty()).then_some(&self.tags))
            .bind(self.callback_url.as_deref())
            .bind(self.notify_channel.as_deref())
            .fetch_optional(executor)
            .await
            .named()
    }

    /// How its sentences begin.
    fn subject(&self) -> String {
        format!("run for handler \"{}\"", check::shown(&self.handler))
    }

    /// Checks everything but the payload, which was checked when it was given; answers the target as stored.
    pub(super) fn check(&self) -> Result<Option<String>> {
        self.problem().map_err(|problem| Error::invalid(self.subject(), problem))
    }

    fn problem(&self) -> Result<Option<String>, String> {
        check::handler(&self.handler)?;
        self.queue.as_deref().map_or(Ok(()), check::queue)?;
        self.priority.map_or(Ok(()), check::priority)?;
        self.max_attempts.map_or(Ok(()), check::max_attempts)?;
        if let Timeout::Of(timeout) = self.timeout {
            check::interval("timeout", timeout, Duration::from_millis(1))?;
        }
        match self.start {
            Start::AtOnce => {}
            Start::At(at) => check::time("run_at", at)?,
            Start::In(delay) => check::interval("delay", delay, Duration::ZERO)?,
        }
        self.start_deadline.map_or(Ok(()), |at| check::time("start_deadline", at))?;
        self.unique_key.as_deref().map_or(Ok(()), |key| check::key("unique_key", key))?;
        self.concurrency_key.as_deref().map_or(Ok(()), |key| check::key("concurrency_key", key))?;
        self.callback_url.as_deref().map_or(Ok(()), check::callback_url)?;
        self.notify_channel.as_deref().map_or(Ok(()), check::notify_channel)?;
        check::tags(&self.tags)?;
        self.target.as_deref().map(check::selector).transpose()
    }
}

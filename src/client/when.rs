//! When something happens and how: a schedule without its name and its handler.

mod options;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::check;
use super::new_run::{Timeout, interval, json_text, retry_text};
use crate::error::{Error, Result};
use crate::schedule::{Dst, FirstFire, Misfire, Overlap, Spec};

pub(super) use options::options;

/// The times of a schedule and all its options, to be given a name and a handler.
///
/// Made by [`cron()`], [`fixed_delay`], [`fixed_rate`] and [`once`]. What is not said has the default of the
/// columns of `watchbell.schedules`: time zone UTC, queue `default`, priority 5, 3 attempts, an hour's
/// timeout, overlap `allow`, misfire `fire_once`.
///
/// ```
/// use watchbell::schedule::{Misfire, Overlap};
/// use watchbell::{cron, fixed_delay, minutes};
///
/// let nightly = cron("0 2 * * *").timezone("Europe/Paris").overlap(Overlap::Skip).misfire(Misfire::FireOnce);
/// let sync = fixed_delay(minutes(5)).queue("slow").payload(&serde_json::json!({"region": "eu"}));
/// # let _ = (nightly, sync);
/// ```
#[derive(Debug, Clone)]
pub struct When {
    times: Times,
    pub(super) timezone: String,
    pub(super) dst: Dst,
    /// JSON text; `None` is an empty object.
    payload: Option<String>,
    pub(super) queue: Option<String>,
    pub(super) priority: Option<i16>,
    pub(super) max_attempts: Option<i16>,
    retry: Option<String>,
    pub(super) timeout: Timeout,
    pub(super) overlap: Overlap,
    pub(super) max_running: Option<i32>,
    pub(super) misfire: Misfire,
    pub(super) start_deadline: Option<Duration>,
    pub(super) jitter: Option<Duration>,
    pub(super) pause_after_failures: Option<i32>,
    pub(super) concurrency_key: Option<String>,
    pub(super) first_fire: FirstFire,
    pub(super) starts_at: Option<Moment>,
    pub(super) ends_at: Option<DateTime<Utc>>,
    pub(super) max_fires: Option<i64>,
    pub(super) target: Option<String>,
    pub(super) description: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) runbook_url: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) callback_url: Option<String>,
    pub(super) notify_channel: Option<String>,
    pub(super) keep_alive: bool,
    pub(super) copies: Option<i32>,
    /// The first option that could not be taken; said when it is used.
    problem: Option<String>,
}

#[derive(Debug, Clone)]
enum Times {
    Cron(String),
    FixedDelay(Duration),
    FixedRate(Duration),
    Once(Moment),
}

/// A point in time: itself, or so long after a schedule is first declared, by the database's clock.
///
/// Made from a `DateTime<Utc>` or a [`Duration`].
///
/// ```
/// use chrono::{TimeZone, Utc};
/// use watchbell::client::Moment;
/// use watchbell::{hours, once};
///
/// let christmas = Utc.with_ymd_and_hms(2026, 12, 24, 18, 0, 0).unwrap();
/// assert_eq!(Moment::from(christmas), Moment::At(christmas));
/// assert_eq!(Moment::from(hours(1)), Moment::In(hours(1)));
/// let (greeting, reminder) = (once(christmas), once(hours(1)));
/// # let _ = (greeting, reminder);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This instant.
    At(DateTime<Utc>),
    /// So long after the first declaration; later ones, of any replica, keep that instant.
    In(Duration),
}

impl From<DateTime<Utc>> for Moment {
    fn from(at: DateTime<Utc>) -> Self {
        Self::At(at)
    }
}

impl From<Duration> for Moment {
    fn from(delay: Duration) -> Self {
        Self::In(delay)
    }
}

impl Moment {
    fn parts(self) -> (Option<DateTime<Utc>>, Option<Duration>) {
        match self {
            Self::At(at) => (Some(at), None),
            Self::In(delay) => (None, Some(delay)),
        }
    }

    fn check(self, column: &str) -> Result<(), String> {
        match self {
            Self::At(at) => check::time(column, at),
            Self::In(delay) => check::interval(column, delay, Duration::ZERO),
        }
    }
}

/// Fires when the wall clock matches: `0 2 * * *`, with seconds `*/10 * * * * *`, or `@daily`.
pub fn cron(expression: impl Into<String>) -> When {
    When::new(Times::Cron(expression.into()))
}

/// Fires so long after its last run ended; at least 1 s.
///
/// ```
/// use watchbell::{fixed_delay, seconds};
///
/// let consumer = fixed_delay(seconds(1)).keep_alive().copies(3); // three that run for ever
/// # let _ = consumer;
/// ```
pub fn fixed_delay(delay: Duration) -> When {
    When::new(Times::FixedDelay(delay))
}

/// Fires every so often, whether or not its last run ended; at least 1 s.
///
/// ```
/// use watchbell::{fixed_rate, schedule::FirstFire, seconds};
///
/// let beat = fixed_rate(seconds(30)).first_fire(FirstFire::AtOnce);
/// # let _ = beat;
/// ```
pub fn fixed_rate(period: Duration) -> When {
    When::new(Times::FixedRate(period))
}

/// Fires once, late if need be: at an instant, or so long after it is first declared.
///
/// `once(minutes(5))` declared by three replicas, or again at the next start, is one run: the first
/// declaration fixed the instant.
///
/// ```
/// use watchbell::{hours, once};
///
/// let reminder = once(hours(1)).payload(&serde_json::json!({"order": 7}));
/// # let _ = reminder;
/// ```
pub fn once(at: impl Into<Moment>) -> When {
    When::new(Times::Once(at.into()))
}

options!(When);

impl When {
    fn new(times: Times) -> Self {
        Self {
            times,
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
            callback_url: None,
            notify_channel: None,
            keep_alive: false,
            copies: None,
            problem: None,
        }
    }

    /// What each run gets: any value that becomes a JSON object of at most 1 MiB.
    ///
    /// One that does not is refused, with the schedule's name, when the schedule is declared.
    #[must_use]
    pub fn payload(mut self, payload: &(impl Serialize + ?Sized)) -> Self {
        let text = json_text("payload", payload);
        match text.map_err(problem_of).and_then(|text| check::payload(&text).map(|()| text)) {
            Ok(text) => self.payload = Some(text),
            Err(problem) => self.refuse(problem),
        }
        self
    }

    /// As [`payload`](Self::payload), from JSON text, which is sent as it is.
    #[must_use]
    pub fn payload_json(mut self, text: &str) -> Self {
        match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) => return self.payload(raw),
            Err(e) => self.refuse(format!("payload is not valid JSON: {e}")),
        }
        self
    }

    /// How long to wait before each further attempt: `{"strategy": "fixed", "base": "30s"}`.
    ///
    /// One that is no [`RetryPolicy`](crate::retry::RetryPolicy) is refused, with the schedule's name, when
    /// the schedule is declared.
    #[must_use]
    pub fn retry(mut self, policy: &(impl Serialize + ?Sized)) -> Self {
        match retry_text("retry", policy) {
            Ok(text) => self.retry = Some(text),
            Err(error) => self.refuse(problem_of(error)),
        }
        self
    }

    /// The first problem stays.
    fn refuse(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// What the database cannot say at once, or would say of a row it cannot even receive; the rest is its own.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        match &self.times {
            Times::Cron(text) => {
                let spec = Spec::cron(text, &self.timezone, self.dst).map_err(|e| e.to_string())?;
                if matches!(&spec, Spec::Cron(cron) if cron.never_fires()) {
                    return Err(format!("invalid cron expression \"{}\": no date matches it", check::shown(text)));
                }
            }
            Times::FixedDelay(delay) => check::interval("fixed_delay", *delay, Duration::from_secs(1))?,
            Times::FixedRate(period) => check::interval("fixed_rate", *period, Duration::from_secs(1))?,
            Times::Once(at) => at.check("run_at")?,
        }
        if let Timeout::Of(timeout) = self.timeout {
            check::interval("timeout", timeout, Duration::from_millis(1))?;
        }
        self.jitter.map_or(Ok(()), |jitter| check::interval("jitter", jitter, Duration::ZERO))?;
        self.start_deadline
            .map_or(Ok(()), |limit| check::interval("start_deadline", limit, Duration::from_millis(1)))?;
        self.starts_at.map_or(Ok(()), |at| at.check("starts_at"))?;
        self.ends_at.map_or(Ok(()), |at| check::time("ends_at", at))
    }

    /// Binds name, handler and all options, $1 to $35, in the order of the statement's columns.
    pub(super) fn bind<'q>(
        &'q self,
        name: &'q str,
        handler: &'q str,
        statement: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        let (cron, delay, rate, at) = match &self.times {
            Times::Cron(expression) => (Some(expression), None, None, None),
            Times::FixedDelay(delay) => (None, Some(interval(*delay)), None, None),
            Times::FixedRate(period) => (None, None, Some(interval(*period)), None),
            Times::Once(at) => (None, None, None, Some(*at)),
        };
        let (misfire, grace, window, limit) = match self.misfire {
            Misfire::FireOnce => ("fire_once", None, None, None),
            Misfire::Skip { grace } => ("skip", Some(grace), None, None),
            Misfire::CatchUp { window, limit } => ("catch_up", None, Some(window), Some(i64::from(limit))),
        };
        let (run_at, run_in) = at.map_or((None, None), Moment::parts);
        let (starts_at, starts_in) = self.starts_at.map_or((None, None), Moment::parts);
        statement
            .bind(name)
            .bind(cron)
            .bind(delay)
            .bind(rate)
            .bind(run_at)
            .bind(&self.timezone)
            .bind(self.dst.as_str())
            .bind(handler)
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
            .bind(starts_at)
            .bind(self.ends_at)
            .bind(self.max_fires)
            .bind(self.target.as_deref())
            .bind(self.description.as_deref())
            .bind(self.owner.as_deref())
            .bind(self.runbook_url.as_deref())
            .bind(&self.tags)
            .bind(run_in.map(interval))
            .bind(starts_in.map(interval))
    }

    /// What could not be taken, if anything: for callers that say it at once.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// The second half of a refusal, to be said of a schedule whose name is not known yet.
fn problem_of(error: Error) -> String {
    match error {
        Error::Invalid { problem, .. } => problem,
        other => other.to_string(),
    }
}

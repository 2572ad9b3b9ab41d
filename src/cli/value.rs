//! What may stand after an option; what may not is answered with the bound.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::duration;
use crate::handler::size;
use crate::run::RunId;

/// A whole number within these bounds.
pub(super) fn number(bounds: RangeInclusive<u32>) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync {
    move |text| {
        let value = text.parse().ok().filter(|value| bounds.contains(value));
        value.ok_or_else(|| format!("must be {} to {}", bounds.start(), bounds.end()))
    }
}

/// A duration such as 90s, 1h30m or 2 days within these bounds, in seconds.
pub(super) fn seconds(bounds: RangeInclusive<u64>) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync {
    let (least, most) = (Duration::from_secs(*bounds.start()), Duration::from_secs(*bounds.end()));
    move |text| {
        let value = any_duration(text)?;
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(format!("must be {} to {}", words(least), words(most)))
        }
    }
}

/// A number of bytes such as 65536, 64KiB or 1MiB within these bounds.
pub(super) fn bytes(bounds: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync {
    move |text| {
        let value = size(text).filter(|value| bounds.contains(value));
        value.ok_or_else(|| format!("must be {} to {} bytes, such as 65536 or 64KiB", bounds.start(), bounds.end()))
    }
}

/// A duration of any length.
pub(super) fn any_duration(text: &str) -> Result<Duration, String> {
    let problem = || "must be a duration such as 90s, 1h30m or 2 days".to_owned();
    duration::parse(text).ok().and_then(|parsed| parsed.to_std().ok()).ok_or_else(problem)
}

/// A duration, or `none`.
pub(super) fn duration_or_none(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    let problem = || "must be a duration such as 90s, 1h30m or 2 days, or none".to_owned();
    any_duration(text).map(|limit| Limit(Some(limit))).map_err(|_| problem())
}

/// A limit that there may not be. (clap takes an `Option` for an argument that was not given.)
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(pub(super) Option<Duration>);

/// An instant with its offset.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let problem = |_| "must be a time such as 2031-02-03T04:05:06Z or 2031-02-03T04:05:06+01:00".to_owned();
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(problem)
}

/// An instant, or how long ago it was.
#[derive(Debug, Clone, Copy)]
pub(super) enum Since {
    Time(DateTime<Utc>),
    Ago(Duration),
}

impl Since {
    /// The instant; the beginning of time for what was longer ago than that.
    pub(super) fn at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let ago = |ago| TimeDelta::from_std(ago).ok().and_then(|ago| now.checked_sub_signed(ago));
        match self {
            Self::Time(time) => time,
            Self::Ago(duration) => ago(duration).unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}

/// An instant with its offset, or a duration before now.
pub(super) fn since(text: &str) -> Result<Since, String> {
    let problem = |_| "must be a time such as 2031-02-03T04:05:06Z, or how long ago, such as 2h".to_owned();
    any_duration(text).map(Since::Ago).or_else(|_| time(text).map(Since::Time)).map_err(problem)
}

/// The id of a run.
pub(super) fn run_id(text: &str) -> Result<RunId, String> {
    text.parse().map_err(|_| "must be the number of a run, from 1".to_owned())
}

/// A label pair `key=value`.
pub(super) fn label(text: &str) -> Result<String, String> {
    let sound = text.split_once('=').is_some_and(|(key, value)| {
        !key.is_empty() && !value.is_empty() && !value.contains('=') && !text.contains([',', ' '])
    });
    if sound { Ok(text.to_owned()) } else { Err("must be key=value without blanks and commas".to_owned()) }
}

/// A duration in words.
pub(super) fn words(duration: Duration) -> String {
    duration::words(TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX))
}

/// A duration as PostgreSQL reads it.
pub(super) fn interval(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// Words as PostgreSQL reads an array.
pub(super) fn array(words: &[String]) -> String {
    let quoted: Vec<String> =
        words.iter().map(|word| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
}

//! The rules for what a run or a schedule carries, with the sentences that the database uses.
//!
//! The database checks every row that comes through `watchbell.runs` or `watchbell.schedules`; these
//! are for rows that go past it in bulk, and answer before anything is sent.

use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, Utc};

use crate::duration;

/// The most bytes of a payload.
pub(super) const PAYLOAD_MAX: usize = 1024 * 1024;
/// The most bytes of a handler's name, a unique key or a concurrency key.
const KEY_MAX: usize = 256;
const TAGS_MAX: usize = 100;
const TAGS_BYTES_MAX: usize = 8192;

/// What is wrong, as the end of a sentence.
type Check = Result<(), String>;

pub(super) fn handler(name: &str) -> Check {
    if name.is_empty() || name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Err("handler is missing".to_owned());
    }
    key("handler", name)
}

pub(super) fn key(column: &str, value: &str) -> Check {
    match value.len() {
        0 => Err(format!("{column} is empty")),
        n if n > KEY_MAX => Err(format!("{column} is {n} bytes, more than the limit of {KEY_MAX}")),
        _ if column == "concurrency_key" && value.starts_with("queue:") => {
            Err("concurrency_key begins with \"queue:\", which is for the limits of queues".to_owned())
        }
        _ => Ok(()),
    }
}

pub(super) fn callback_url(url: &str) -> Check {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/') || rest.contains(char::is_whitespace)) {
        return Err(format!("callback_url \"{}\" is not an address", shown(url)));
    }
    if url.len() > 2048 {
        return Err(format!("callback_url is {} bytes, more than the limit of 2048", url.len()));
    }
    Ok(())
}

pub(super) fn notify_channel(channel: &str) -> Check {
    match channel.len() {
        1..=63 if channel.starts_with("watchbell") => {
            Err("notify_channel begins with \"watchbell\", which is for workers".to_owned())
        }
        1..=63 => Ok(()),
        n => Err(format!("notify_channel is {n} bytes, which is out of range 1-63")),
    }
}

/// A JSON text that is known to be well formed.
pub(super) fn payload(json: &str) -> Check {
    if !json.trim_start().starts_with('{') {
        let kind = match json.trim_start().as_bytes().first() {
            Some(b'[') => "array",
            Some(b'"') => "string",
            Some(b't' | b'f') => "boolean",
            Some(b'n') => "null",
            _ => "number",
        };
        return Err(format!("payload must be a JSON object (got {kind})"));
    }
    if json.len() > PAYLOAD_MAX {
        return Err(format!("payload is {} bytes, more than the limit of {PAYLOAD_MAX}", json.len()));
    }
    Ok(())
}

/// A name of a queue or schedule: 1 to 128 letters, digits and `. _ : -`, a letter or digit first.
pub(super) fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(b))
}

pub(super) fn queue(name: &str) -> Check {
    if is_name(name) { Ok(()) } else { Err(format!("queue \"{}\" is not a valid name", shown(name))) }
}

pub(super) fn priority(value: i16) -> Check {
    if (0..=9).contains(&value) { Ok(()) } else { Err(format!("priority {value} is out of range 0-9 (0 runs first)")) }
}

pub(super) fn max_attempts(value: i16) -> Check {
    if (1..=100).contains(&value) { Ok(()) } else { Err(format!("max_attempts {value} is out of range 1-100")) }
}

pub(super) fn interval(column: &str, value: Duration, least: Duration) -> Check {
    let words = |value: Duration| duration::words(TimeDelta::from_std(value).unwrap_or(TimeDelta::MAX));
    if value < least {
        return Err(format!("{column} {} is shorter than the least of {}", words(value), words(least)));
    }
    if value > LONGEST {
        return Err(format!("{column} {} is longer than the limit of 36525 days", words(value)));
    }
    Ok(())
}

/// The longest interval there is.
const LONGEST: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);

pub(super) fn time(column: &str, value: DateTime<Utc>) -> Check {
    if (1..=9998).contains(&value.year()) {
        Ok(())
    } else {
        Err(format!("{column} {value} is outside the years 1 to 9998"))
    }
}

pub(super) fn tags(tags: &[String]) -> Check {
    if tags.len() > TAGS_MAX {
        return Err(format!("tags has {} entries, more than the limit of {TAGS_MAX}", tags.len()));
    }
    if tags.iter().map(String::len).sum::<usize>() > TAGS_BYTES_MAX {
        return Err(format!("tags are longer than the limit of {TAGS_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// Label pairs as they are stored: `host = a, zone=b` becomes `host=a,zone=b`.
pub(super) fn selector(target: &str) -> Result<String, String> {
    let problem = || format!("target \"{}\" is not a label selector", shown(target));
    let mut pairs = Vec::new();
    for pair in target.split(',') {
        let (label, value) = pair.split_once('=').ok_or_else(problem)?;
        let (label, value) = (label.trim(), value.trim());
        let sound = label.starts_with(|c: char| c.is_ascii_alphanumeric())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
            && !value.is_empty()
            && !value.contains(|c: char| c.is_whitespace() || c == '=');
        if !sound {
            return Err(problem());
        }
        pairs.push(format!("{label}={value}"));
    }
    let selector = pairs.join(",");
    if selector.len() <= KEY_MAX { Ok(selector) } else { Err(problem()) }
}

/// A value of any length and content as it may stand inside one sentence.
pub(super) fn shown(value: &str) -> String {
    let mut shown: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
    if value.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

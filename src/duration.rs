//! Durations as people write them, and back: `1h30m`, `2 weeks`, `PT1H`, `1 day 02:00:00`.
//!
//! A duration is elapsed time: a day is 24 hours and a week seven of them. Months and years have no
//! length and are refused. The unit of account is the millisecond; what is finer is cut off.

use std::time::Duration;

use chrono::TimeDelta;

/// The longest duration there is: a hundred years of 365.25 days.
pub const LONGEST: TimeDelta = TimeDelta::days(36_525);

const NO_LENGTH: &str = "months and years have no fixed length; use weeks or days";

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_SECOND: u64 = 1_000 * NS_PER_MS;
const NS_PER_MINUTE: u64 = 60 * NS_PER_SECOND;
const NS_PER_HOUR: u64 = 60 * NS_PER_MINUTE;
const NS_PER_DAY: u64 = 24 * NS_PER_HOUR;
const NS_PER_WEEK: u64 = 7 * NS_PER_DAY;

/// Why a text is not a duration, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration \"{}\": {problem}", crate::duration::shown(.text))]
pub struct DurationError {
    text: String,
    problem: String,
}

/// So many milliseconds.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// So many seconds.
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// So many minutes; of more than fit, as many as fit.
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60))
}

/// So many hours; of more than fit, as many as fit.
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60 * 60))
}

/// So many days of 24 hours; of more than fit, as many as fit.
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(24 * 60 * 60))
}

/// Reads a duration: zero or more, at most [`LONGEST`].
///
/// Takes numbers with units (`1h30m`, `1.5 hours`, `2w`), ISO 8601 (`PT1H30M`, `P2W`) and PostgreSQL's
/// interval text (`1 day 02:00:00.5`, `@ 5 mins`).
///
/// # Errors
/// One sentence: no unit, an unknown unit, a month or year, a negative or too long a duration.
pub fn parse(text: &str) -> Result<TimeDelta, DurationError> {
    nanoseconds(text)
        .and_then(|ns| i64::try_from(ns / u128::from(NS_PER_MS)).map_err(|_| too_long()))
        .and_then(|ms| TimeDelta::try_milliseconds(ms).filter(|d| *d <= LONGEST).ok_or_else(too_long))
        .map_err(|problem| DurationError { text: text.to_owned(), problem })
}

/// A PostgreSQL interval from its three parts, cut to whole milliseconds.
///
/// # Errors
/// One sentence: it has months, is negative or longer than [`LONGEST`].
pub fn from_interval(months: i32, days: i32, microseconds: i64) -> Result<TimeDelta, DurationError> {
    let refuse = |problem: String| {
        let text = format!("{months} months {days} days {} seconds", microseconds as f64 / 1e6);
        Err(DurationError { text, problem })
    };
    if months != 0 {
        return refuse(NO_LENGTH.to_owned());
    }
    let Some(duration) = TimeDelta::days(i64::from(days)).checked_add(&TimeDelta::microseconds(microseconds)) else {
        return refuse(too_long());
    };
    match TimeDelta::milliseconds(duration.num_milliseconds()) {
        cut if cut < TimeDelta::zero() => refuse("it is negative".to_owned()),
        cut if cut > LONGEST => refuse(too_long()),
        cut => Ok(cut),
    }
}

/// Writes a duration as [`parse`] reads it: `1h30m`, `2w`, `1s500ms`, `0s`.
pub fn words(duration: TimeDelta) -> String {
    let mut ms = duration.num_milliseconds().unsigned_abs();
    let mut text = String::from(if duration < TimeDelta::zero() { "-" } else { "" });
    for (unit, unit_ns) in [
        ("w", NS_PER_WEEK),
        ("d", NS_PER_DAY),
        ("h", NS_PER_HOUR),
        ("m", NS_PER_MINUTE),
        ("s", NS_PER_SECOND),
        ("ms", NS_PER_MS),
    ] {
        let unit_ms = unit_ns / NS_PER_MS;
        if ms >= unit_ms {
            text.push_str(&format!("{}{unit}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A text as an error message quotes it: without control characters, and cut at 80 characters, as
/// `watchbell.shown` does it in the database.
pub(crate) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().map(plain).take(80).collect();
    if text.chars().nth(80).is_some() {
        shown.push_str("...");
    }
    shown
}

fn too_long() -> String {
    format!("at most {} days are allowed", LONGEST.num_days())
}

fn nanoseconds(text: &str) -> Result<u128, String> {
    let text = text.trim_ascii();
    if let Some(iso) = text.strip_prefix('P') {
        return iso_8601(iso);
    }
    // PostgreSQL's verbose style begins with an at sign.
    let mut rest = text.strip_prefix('@').unwrap_or(text).trim_ascii_start();
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if number.contains(':') {
            total = total.saturating_add(clock(number)?);
            rest = after.trim_ascii_start();
            continue;
        }
        let after = after.trim_ascii_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if number.is_empty() {
            return Err(format!("expected a number before \"{}\"", shown(rest)));
        }
        total = total.saturating_add(times(number, unit_ns(unit)?)?);
        rest = after.trim_ascii_start();
    }
    Ok(total)
}

/// `nW`, or `nD` and after a `T` the `nH nM nS`, each optional, in this order.
fn iso_8601(text: &str) -> Result<u128, String> {
    let malformed = || "expected ISO 8601 such as PT1H30M, P1DT12H or P2W".to_owned();
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    if date.contains(['Y', 'M']) {
        return Err(NO_LENGTH.to_owned());
    }
    if text.is_empty() || time.is_some_and(str::is_empty) {
        return Err(malformed());
    }
    let mut total = 0_u128;
    let days = [('W', NS_PER_WEEK), ('D', NS_PER_DAY)];
    let hours = [('H', NS_PER_HOUR), ('M', NS_PER_MINUTE), ('S', NS_PER_SECOND)];
    for (mut rest, units) in [(date, &days[..]), (time.unwrap_or_default(), &hours[..])] {
        for &(unit, unit_ns) in units {
            if let Some((number, after)) = rest.split_once(unit) {
                total = total.saturating_add(times(number, unit_ns)?);
                rest = after;
            }
        }
        if !rest.is_empty() {
            return Err(malformed());
        }
    }
    Ok(total)
}

/// `h:mm` or `h:mm:ss`, with a fraction of the seconds.
fn clock(text: &str) -> Result<u128, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let in_range = |part: &str| part.split('.').next().is_some_and(|n| n.len() == 2 && n < "60");
    match parts[..] {
        [h, m] if in_range(m) && !m.contains('.') => {
            Ok(times(h, NS_PER_HOUR)?.saturating_add(times(m, NS_PER_MINUTE)?))
        }
        [h, m, s] if in_range(m) && in_range(s) && !m.contains('.') && !h.contains('.') => {
            let minutes = times(h, NS_PER_HOUR)?.saturating_add(times(m, NS_PER_MINUTE)?);
            Ok(minutes.saturating_add(times(s, NS_PER_SECOND)?))
        }
        _ => Err(format!("\"{}\" is not a time such as 01:30 or 01:30:00", shown(text))),
    }
}

fn unit_ns(unit: &str) -> Result<u64, String> {
    Ok(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => NS_PER_MS,
        "s" | "sec" | "secs" | "second" | "seconds" => NS_PER_SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => NS_PER_MINUTE,
        "h" | "hr" | "hrs" | "hour" | "hours" => NS_PER_HOUR,
        "d" | "day" | "days" => NS_PER_DAY,
        "w" | "week" | "weeks" => NS_PER_WEEK,
        "" => return Err("it has no unit (use ms, s, m, h, d or w)".to_owned()),
        "M" | "mon" | "mons" | "month" | "months" | "y" | "yr" | "yrs" | "year" | "years" => {
            return Err(NO_LENGTH.to_owned());
        }
        _ => return Err(format!("unknown unit \"{}\" (use ms, s, m, h, d or w)", shown(unit))),
    })
}

/// A decimal number of units, without going through a binary fraction: 0.1 s is exactly 100 ms.
fn times(number: &str, unit_ns: u64) -> Result<u128, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(format!("\"{}\" is not a number", shown(number)));
    }
    if whole.len() > 20 {
        return Err(too_long());
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_long())? };
    // Beyond nanoseconds of a week fifteen digits change nothing.
    let fraction = fraction.get(..15).unwrap_or(fraction);
    let scale = 10_u128.pow(fraction.len() as u32);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| too_long())? };
    Ok(whole.saturating_mul(u128::from(unit_ns)).saturating_add(fraction * u128::from(unit_ns) / scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(text: &str) -> i64 {
        parse(text).unwrap().num_milliseconds()
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, expected) in [
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("2w", 1_209_600_000),
            ("5 min", 300_000),
            ("30 s", 30_000),
            ("0.1s", 100),
            ("1.5 hours", 5_400_000),
            ("900000000050ns", 900_000),
            ("250ms", 250),
            ("0s", 0),
            ("PT1H", 3_600_000),
            ("P1DT12H", 129_600_000),
            ("P2W", 1_209_600_000),
            ("PT0.5S", 500),
            ("00:01:30", 90_000),
            ("1 day 02:00:00.5", 93_600_500),
            ("@ 5 mins", 300_000),
            ("36525d", LONGEST.num_milliseconds()),
        ] {
            assert_eq!(ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_refused_duration_names_the_text_and_the_reason() {
        for (text, expected) in [
            ("", "invalid duration \"\": it is empty"),
            ("5", "invalid duration \"5\": it has no unit (use ms, s, m, h, d or w)"),
            ("5 parsecs", "invalid duration \"5 parsecs\": unknown unit \"parsecs\" (use ms, s, m, h, d or w)"),
            ("1 month", "invalid duration \"1 month\": months and years have no fixed length; use weeks or days"),
            ("P1M", "invalid duration \"P1M\": months and years have no fixed length; use weeks or days"),
            ("-5m", "invalid duration \"-5m\": expected a number before \"-5m\""),
            ("36526d", "invalid duration \"36526d\": at most 36525 days are allowed"),
            ("Xm", "invalid duration \"Xm\": expected a number before \"Xm\""),
            ("PT", "invalid duration \"PT\": expected ISO 8601 such as PT1H30M, P1DT12H or P2W"),
            ("1:2:3", "invalid duration \"1:2:3\": \"1:2:3\" is not a time such as 01:30 or 01:30:00"),
            ("1..5s", "invalid duration \"1..5s\": \"1..5\" is not a number"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn an_interval_of_the_database_is_elapsed_time() {
        assert_eq!(from_interval(0, 1, 1_500_999).unwrap(), TimeDelta::milliseconds(86_401_500));
        assert_eq!(from_interval(0, 1, -3_600_000_000).unwrap(), TimeDelta::hours(23));
        for ((months, days, microseconds), expected) in [
            (
                (1, 0, 0),
                "invalid duration \"1 months 0 days 0 seconds\": months and years have no fixed length; use weeks or days",
            ),
            ((0, 0, -1_000), "invalid duration \"0 months 0 days -0.001 seconds\": it is negative"),
            (
                (0, i32::MAX, i64::MAX),
                "invalid duration \"0 months 2147483647 days 9223372036854.775 seconds\": at most 36525 days are allowed",
            ),
        ] {
            assert_eq!(from_interval(months, days, microseconds).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(ms in 0..=LONGEST.num_milliseconds()) {
            let duration = TimeDelta::milliseconds(ms);
            prop_assert_eq!(parse(&words(duration)).unwrap(), duration);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9PTWDHMS.: a-zµ@+-]{0,40}") {
            let _ = parse(&text);
        }
    }
}

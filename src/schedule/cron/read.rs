//! From the text of a cron expression to its fields, and from those to the crate's schedule.

use std::str::FromStr;

use chrono::TimeDelta;

use super::days::Days;
use super::field::Field;
use super::zone::Zone;
use super::{Cron, CronError, Dst, FIRST, LENGTH_MAX, Rule, Times};
use crate::duration::{self, shown};

impl Cron {
    /// Reads an expression; a `TZ=` in it goes before `timezone`.
    ///
    /// An expression that no date matches (`0 0 30 2 *`) is read too: see [`Self::never_fires`].
    ///
    /// # Errors
    /// One sentence naming the field, its value and its range, or the unknown zone.
    pub fn parse(text: &str, timezone: &str, dst: Dst) -> Result<Self, CronError> {
        let problem = |problem: String| CronError::Expression { text: text.to_owned(), problem };
        if text.len() > LENGTH_MAX {
            return Err(problem(too_long(text)));
        }
        let (prefix, _) = split_zone(text);
        let zone = match prefix {
            Some(name) => Zone::find(name).ok_or_else(|| problem(unknown_zone(name)))?,
            None => Zone::find(timezone).ok_or_else(|| CronError::Timezone(timezone.to_owned()))?,
        };
        let [second, minute, hour, dom, month, dow, year] = fields(text).map_err(problem)?;
        let times = Times {
            seconds: Field::Second.numbers(second).map_err(problem)?,
            minutes: Field::Minute.numbers(minute).map_err(problem)?,
            hours: Field::Hour.numbers(hour).map_err(problem)?,
        };
        let days = Days::parse(dom, month, dow, year).map_err(problem)?;
        let follows_real_time = minute.starts_with('*') || hour.starts_with('*');
        let rule = if dst == Dst::Once && !follows_real_time { Rule::Once } else { Rule::Literal };
        let walker = walker(&times, &days);
        let mut cron = Self { text: text.trim_ascii().into(), walker, days, times, zone, rule };
        if cron.first_from(FIRST).is_none() {
            cron.walker = None;
        }
        Ok(cron)
    }
}

/// Reads `@every 5m`, perhaps after a `TZ=`: a period, not a wall clock's time. `None` for all else.
///
/// As everywhere it is rounded down to whole seconds, and is at least one second.
///
/// # Errors
/// The duration cannot be read.
pub fn every(text: &str) -> Result<Option<TimeDelta>, CronError> {
    let (zone, body) = split_zone(text);
    let Some(period) = period_of(body) else { return Ok(None) };
    let problem = |problem: String| CronError::Expression { text: text.to_owned(), problem };
    if text.len() > LENGTH_MAX {
        return Err(problem(too_long(text)));
    }
    // A period has no use for a zone; a name that is none is a mistake all the same.
    if let Some(name) = zone.filter(|name| Zone::find(name).is_none()) {
        return Err(problem(unknown_zone(name)));
    }
    let period = duration::parse(period).map_err(|error| problem(error.to_string()))?;
    Ok(Some(TimeDelta::seconds(period.num_seconds().max(1))))
}

/// The zone whose clocks an expression means: that of its `TZ=`, else `timezone`.
pub(in crate::schedule) fn zone_of<'a>(text: &'a str, timezone: &'a str) -> &'a str {
    split_zone(text).0.unwrap_or(timezone)
}

/// What follows `@every` and a blank.
fn period_of(body: &str) -> Option<&str> {
    let rest = body.strip_prefix("@every")?;
    rest.starts_with(|c: char| c.is_ascii_whitespace()).then(|| rest.trim_ascii())
}

fn too_long(text: &str) -> String {
    format!("it has {} bytes, at most {LENGTH_MAX} are allowed", text.len())
}

fn unknown_zone(name: &str) -> String {
    format!("timezone \"{}\" is unknown", shown(name))
}

/// Takes `TZ=zone` or `CRON_TZ=zone` off the front.
fn split_zone(text: &str) -> (Option<&str>, &str) {
    let text = text.trim_ascii();
    match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
        Some(rest) => {
            let (zone, body) = rest.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((rest, ""));
            (Some(zone), body.trim_ascii_start())
        }
        None => (None, text),
    }
}

/// The seven fields, second first.
pub(super) fn fields(text: &str) -> Result<[&str; 7], String> {
    let (_, body) = split_zone(text);
    let body = match body {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ if period_of(body).is_some() => return Err("\"@every\" is a period; set fixed_rate instead".to_owned()),
        _ if body.starts_with('@') => {
            let known = "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly";
            return Err(format!("\"{}\" is not one of {known}", shown(body)));
        }
        _ => body,
    };
    match *body.split_ascii_whitespace().collect::<Vec<_>>() {
        [minute, hour, dom, month, dow] => Ok(["0", minute, hour, dom, month, dow, "*"]),
        [second, minute, hour, dom, month, dow] => Ok([second, minute, hour, dom, month, dow, "*"]),
        [second, minute, hour, dom, month, dow, year] => Ok([second, minute, hour, dom, month, dow, year]),
        ref found => Err(format!("expected 5, 6 or 7 fields, found {}", found.len())),
    }
}

/// The crate's schedule for these fields, with every day that may match; `None` if there is none.
fn walker(times: &Times, days: &Days) -> Option<cron::Schedule> {
    let expression = format!(
        "{} {} {} {} {} * *",
        ranges(times.seconds.iter(), 0, 59),
        ranges(times.minutes.iter(), 0, 59),
        ranges(times.hours.iter(), 0, 23),
        ranges(days.superset(), 1, 31),
        ranges(days.months().iter(), 1, 12),
    );
    // It refuses the empty list of an expression that has no day.
    cron::Schedule::from_str(&expression).ok()
}

/// Ascending numbers as the crate reads them fastest: `*` for all of them, else ranges.
fn ranges(numbers: impl Iterator<Item = u32>, low: u32, high: u32) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for n in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    if ranges == [(low, high)] {
        return "*".to_owned();
    }
    let range = |&(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

//! Cron expressions: the fire times of a wall clock in a time zone.
//!
//! ```text
//! spec   = [("TZ=" | "CRON_TZ=") zone WS] (nick | fields)
//! nick   = @yearly @annually @monthly @weekly @daily @midnight @hourly
//! fields = [second] minute hour day-of-month month day-of-week [year]     5, 6 or 7 of them
//! field  = term {"," term}       term = ("*" | n | n"-"n) ["/" step]      n/step is n-highest/step
//! ```
//! Months and weekdays may be named, in any case; weekdays are 0 to 7, and both 0 and 7 are Sunday. A day
//! of the month may also be `L` (last), `LW` (last of Monday to Friday) or `15W` (of those the nearest to
//! the 15th); a weekday `FRI#3` (third), `FRI#L` or `FRIL` (last). If both day fields are restricted either
//! matches, or with a `+` before the weekday both must; `*`, `?` and `*/1` are no restriction.
//!
//! How it works: the fields are read here, into sets. The crate `cron` walks plain wall time (carried as
//! UTC) through them; it is never told of a zone, because across a clock change its answers go backwards.
//! Which days match is decided by [`days`], and which instants a wall time stands for by [`Cron::first_from`].

mod cache;
mod count;
mod days;
mod field;
mod set;
mod zone;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeDelta, Utc};

use self::days::{Days, YEAR_MAX};
use self::field::Field;
use self::set::Set;
use self::zone::{Stretch, Zone};
use super::words;
use crate::duration::{self, shown};

/// The longest expression, in bytes.
pub const LENGTH_MAX: usize = 256;

/// Two days before 1970 and two after 2100, in unix seconds: all that fires lies between them in any zone.
const FIRST: i64 = -2 * 86_400;
const LAST: i64 = 4_133_980_800 + 2 * 86_400;

/// No two offsets are further apart than this, in seconds: 26 hours from one side of the date line to the other.
const OFFSETS_APART: i64 = 26 * 3_600;

/// A cron expression with its time zone: a set of instants, all of them whole seconds from 1970 to 2100.
#[derive(Clone)]
pub struct Cron {
    text: Box<str>,
    walker: Option<cron::Schedule>,
    days: Days,
    times: Times,
    zone: Zone,
    rule: Rule,
}

/// What a clock change does to a cron schedule, as the column `dst` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dst {
    /// A fixed time runs once: when the gap ends if it falls into one, at its first pass if it comes
    /// twice. A minute or hour that begins with `*` follows real time (Debian's cron).
    #[default]
    Once,
    /// As the wall clock shows it: not at all in a gap, twice where an hour repeats (Kubernetes).
    Literal,
}

words!(Dst, "dst", "once, literal", Once = "once", Literal = "literal");

/// [`Dst`] as it applies to one expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Every matching wall time is one instant.
    Once,
    /// Every instant at which the wall clock matches.
    Literal,
}

/// The times of day.
#[derive(Debug, Clone, Copy)]
struct Times {
    seconds: Set,
    minutes: Set,
    hours: Set,
}

/// Why a cron expression or its zone is refused, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// The expression breaks the grammar or a range.
    #[error("invalid cron expression \"{}\": {problem}", shown(.text))]
    Expression {
        /// The whole expression.
        text: String,
        /// The field, its value and its range.
        problem: String,
    },
    /// No such time zone.
    #[error("unknown timezone \"{}\" (use UTC or an Area/Location name such as Europe/Paris)", shown(.0))]
    Timezone(String),
}

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
            return Err(problem(format!("it has {} bytes, at most {LENGTH_MAX} are allowed", text.len())));
        }
        let (prefix, body) = split_zone(text);
        let zone = match prefix {
            Some(name) => {
                Zone::find(name).ok_or_else(|| problem(format!("timezone \"{}\" is unknown", shown(name))))?
            }
            None => Zone::find(timezone).ok_or_else(|| CronError::Timezone(timezone.to_owned()))?,
        };
        let [second, minute, hour, dom, month, dow, year] = fields(body).map_err(problem)?;
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

    /// Like [`Self::parse`], from memory if the same was read before.
    ///
    /// What is remembered keeps the zone's rules as they were: new zone data needs a new process.
    ///
    /// # Errors
    /// As [`Self::parse`]; refusals are not remembered.
    pub fn cached(text: &str, timezone: &str, dst: Dst) -> Result<Arc<Self>, CronError> {
        cache::get_or(text, timezone, dst, || Self::parse(text, timezone, dst))
    }

    /// The first fire time later than `after`.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.first_from(after.timestamp() + 1).and_then(|at| DateTime::from_timestamp(at, 0))
    }

    /// The last fire time at or before `until`.
    ///
    /// Steps back in doubling steps and then halves the interval: some dozens of [`Self::next`], however
    /// many fire times there are.
    pub fn previous(&self, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let until = until.timestamp().min(LAST);
        let fires_by = |from: i64| self.first_from(from).filter(|&at| at <= until);
        let mut step = 1;
        let mut latest = loop {
            match fires_by(until - step) {
                Some(at) => break at,
                None if until - step < FIRST || self.never_fires() => return None,
                None => step *= 2,
            }
        };
        // Something fires at `latest`, and nothing from `none_from` to `until`.
        let mut none_from = until + 1;
        while none_from - latest > 1 {
            let middle = latest + (none_from - latest) / 2;
            match fires_by(middle) {
                Some(at) => latest = at,
                None => none_from = middle,
            }
        }
        DateTime::from_timestamp(latest, 0)
    }

    /// The next `n` fire times later than `after`.
    pub fn upcoming(&self, after: DateTime<Utc>, n: usize) -> Vec<DateTime<Utc>> {
        std::iter::successors(self.next(after), |&at| self.next(at)).take(n).collect()
    }

    /// Whether no date from 1970 to 2100 matches.
    pub fn never_fires(&self) -> bool {
        self.walker.is_none()
    }

    /// The first fire time at or after a unix second.
    ///
    /// Goes from stretch to stretch of even wall time (see [`Stretch`]): within one, wall time and instants
    /// differ by a constant, and the first match that lies inside it is the answer.
    fn first_from(&self, from: i64) -> Option<i64> {
        let mut from = from.max(FIRST);
        while from <= LAST {
            let stretch = self.zone.stretch(from);
            let found = self.wall_from(self.rule.wall_at(stretch, from));
            // A match in the gap before this stretch comes at its start.
            let at = found.map(|wall| (wall - stretch.offset).max(from));
            if let Some(at) = at.filter(|&at| at < stretch.end) {
                return Some(at);
            }
            // Nothing here. Later stretches show later wall times, and none until just before `at`; but
            // one that starts soon can also show again the hour that `from` is in.
            let soon = stretch.end.saturating_sub(from) < OFFSETS_APART;
            from = if soon { stretch.end } else { stretch.end.max(at? - OFFSETS_APART) };
        }
        None
    }

    /// The first matching wall time at or after one, both as seconds since 1970 on that clock.
    fn wall_from(&self, wall: i64) -> Option<i64> {
        let walker = self.walker.as_ref()?;
        let after = |wall: NaiveDateTime| walker.after(&wall.and_utc()).next().map(|found| found.naive_utc());
        let found = after(wall_time(wall - 1))?;
        if self.days.contains(found.date()) {
            return Some(found.and_utc().timestamp());
        }
        let day = self.days.on_or_after(found.date().succ_opt()?)?;
        after(day.and_time(NaiveTime::MIN) - TimeDelta::seconds(1)).map(|found| found.and_utc().timestamp())
    }
}

impl Rule {
    /// The earliest wall time that the instant `at`, in this stretch, can stand for.
    fn wall_at(self, stretch: Stretch, at: i64) -> i64 {
        let shown = at + stretch.offset;
        // Where the wall clock would be had it not been changed when this stretch began. It begins there
        // under `Once`: in a gap that takes in the times that were left out, in a repeated hour it leaves
        // out those that were there before.
        let unchanged = stretch.start.saturating_add(stretch.offset_before);
        match self {
            Self::Literal => shown,
            Self::Once if at == stretch.start => unchanged,
            Self::Once => shown.max(unchanged),
        }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Only what it was written as: the walker alone would fill a page.
impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?}, {:?}, {:?})", self.text, self.zone, self.rule)
    }
}

/// Two are equal if they were written alike and follow the same zone and rule.
impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.zone == other.zone && self.rule == other.rule
    }
}

/// Reads `@every 5m`, perhaps after a `TZ=`: a period, not a wall clock's time. `None` for all else.
///
/// As everywhere it is rounded down to whole seconds, and is at least one second.
///
/// # Errors
/// The duration cannot be read.
pub fn every(text: &str) -> Result<Option<TimeDelta>, CronError> {
    let (_, body) = split_zone(text);
    let Some(period) = body.strip_prefix("@every").filter(|rest| rest.starts_with(char::is_whitespace)) else {
        return Ok(None);
    };
    match duration::parse(period.trim_ascii()) {
        Ok(period) => Ok(Some(TimeDelta::seconds(period.num_seconds().max(1)))),
        Err(error) => Err(CronError::Expression { text: text.to_owned(), problem: error.to_string() }),
    }
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
fn fields(body: &str) -> Result<[&str; 7], String> {
    let body = match body {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ if body.starts_with("@every") => return Err("\"@every\" is a period; set fixed_rate instead".to_owned()),
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
    let list = |numbers: &mut dyn Iterator<Item = u32>| numbers.map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let expression = format!(
        "{} {} {} {} {} * {}",
        list(&mut times.seconds.iter()),
        list(&mut times.minutes.iter()),
        list(&mut times.hours.iter()),
        list(&mut days.superset()),
        list(&mut days.months().iter()),
        list(&mut days.years().iter().filter(|&year| year <= YEAR_MAX)),
    );
    // It refuses the empty lists of an expression that has no day or no year up to 2100.
    cron::Schedule::from_str(&expression).ok()
}

/// A wall time from its seconds since 1970 on that clock.
fn wall_time(wall: i64) -> NaiveDateTime {
    DateTime::from_timestamp(wall, 0).unwrap_or_default().naive_utc()
}

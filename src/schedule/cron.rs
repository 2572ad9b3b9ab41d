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
//! UTC) through them; it is never told of a zone, because across a clock change its answers go backwards, nor
//! of a year, because its years end with 2100. Years are dates to us, and `walk` shows it later ones as earlier.
//! Which days match is decided in `days`, and which instants a wall time stands for in `first_from`.

mod cache;
mod count;
mod days;
mod describe;
mod field;
mod read;
mod remarks;
mod set;
mod zone;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDateTime, NaiveTime, Utc};

use self::days::Days;
pub use self::read::every;
pub(super) use self::read::zone_of;
use self::set::Set;
use self::zone::Stretch;
pub(super) use self::zone::Zone;
use super::words;
use crate::duration::shown;

/// The longest expression, in bytes.
pub const LENGTH_MAX: usize = 256;

/// Two days before 1970 and two after 2199, in unix seconds: all that fires lies between them in any zone.
const FIRST: i64 = -2 * DAY;
const LAST: i64 = 7_258_118_400 + 2 * DAY;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// The first second after the walker's years, 2101-01-01.
const WALKER_END: i64 = 4_133_980_800;

/// The 112 years from 1989 to 2101. Those from 2101 to 2199 have the lengths of those from 1989 to 2087: the
/// walker is shown them so. Their weekdays differ, but those it is not asked about.
const WALKER_YEARS: i64 = 40_907 * DAY;

/// No two offsets are further apart than this, in seconds: 26 hours from one side of the date line to the other.
const OFFSETS_APART: i64 = 26 * 3_600;

/// A cron expression with its time zone: a set of instants, all of them whole seconds from 1970 to 2199.
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
    /// It is well formed, and no time matches it; said of what is asked for, not by [`Cron::parse`].
    #[error("\"{}\" never fires: no date matches it", shown(.0))]
    Never(String),
}

impl Cron {
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

    /// Whether nothing matches from 1970 to 2199.
    pub fn never_fires(&self) -> bool {
        self.walker.is_none()
    }

    /// The name of its time zone: that of its `TZ=`, or the one it was read with.
    pub fn timezone(&self) -> &str {
        self.zone.name()
    }

    /// The instant as clocks in its time zone show it.
    pub fn local(&self, at: DateTime<Utc>) -> DateTime<FixedOffset> {
        self.zone.local(at)
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
        let day = match walk(walker, wall) {
            Some(found) => {
                let date = wall_time(found).date();
                if self.days.contains(date) {
                    return Some(found);
                }
                date.succ_opt()?
            }
            None => wall_time(wall.max(WALKER_END)).date(),
        };
        let day = self.days.on_or_after(day)?;
        walk(walker, day.and_time(NaiveTime::MIN).and_utc().timestamp())
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

/// The first time at or after `wall` that the crate finds; `None` at the end of its years.
fn walk(walker: &cron::Schedule, wall: i64) -> Option<i64> {
    let shift = if wall < WALKER_END { 0 } else { WALKER_YEARS };
    let found = walker.after(&wall_time(wall - 1 - shift).and_utc()).next()?;
    Some(found.timestamp() + shift)
}

/// A wall time from its seconds since 1970 on that clock.
fn wall_time(wall: i64) -> NaiveDateTime {
    DateTime::from_timestamp(wall, 0).unwrap_or_default().naive_utc()
}

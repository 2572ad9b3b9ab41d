//! When a schedule fires: values in, values out; no clock, no database, no waiting.
//!
//! [`plan`] is the whole of it: given what a schedule says, what became of it so far, how many of its
//! runs are open and the time, it answers which fire times are due, what becomes of each, and when to
//! look again. The fire stage writes that answer down in one transaction.
//!
//! The parts, in reading order: [`cron`] and `slots` say when the fire times are, [`misfire`] which of
//! those nobody acted on are made up for, [`overlap`] what happens while earlier runs are open,
//! [`jitter`] by how much a run is put off; [`explain`] puts an expression into words.
//!
//! A schedule of ten minutes whose workers were away for an hour:
//!
//! ```
//! use chrono::{TimeDelta, TimeZone, Utc};
//! use watchbell::schedule::{Disposition, Fire, FirstFire, Open, PERIOD_MIN, Plan, Schedule, Spec, Status, Trigger, plan};
//!
//! let noon = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
//! let minutes = TimeDelta::minutes;
//! let mut schedule = Schedule::new(1, Spec::FixedRate(minutes(10)), noon);
//! schedule.first_fire = FirstFire::AtOnce;
//! assert_eq!(schedule.upcoming(noon, 2), [noon + minutes(10), noon + minutes(20)]);
//!
//! let Plan { fires, wake_at, status, .. } = plan(&schedule, noon + minutes(65), Open::default())?;
//! assert_eq!((status, wake_at), (Status::Normal, Some(noon + minutes(70))));
//! let [missed, latest]: [Fire; 2] = fires.try_into().unwrap();
//! assert_eq!((missed.disposition, missed.missed), (Disposition::Coalesced, 6)); // misfire `fire_once`, the default
//! assert_eq!((missed.fire_at, missed.until), (noon, Some(noon + minutes(50))));
//! assert_eq!((latest.disposition, latest.fire_at), (Disposition::Run, noon + minutes(60)));
//! assert_eq!(latest.run.map(|run| run.trigger), Some(Trigger::Schedule));
//!
//! let hectic = Schedule::new(2, Spec::FixedRate(PERIOD_MIN / 2), noon);
//! let refused: watchbell::schedule::Unplannable = plan(&hectic, noon, Open::default()).unwrap_err();
//! assert_eq!(refused.to_string(), "fixed_rate 500ms is below the minimum of 1s");
//! # Ok::<(), watchbell::schedule::Unplannable>(())
//! ```

pub mod cron;
pub mod explain;
pub mod jitter;
pub mod misfire;
pub mod overlap;
mod plan;
mod slots;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

pub use cron::{Cron, CronError, Dst};
pub use misfire::Misfire;
pub use overlap::{Open, Overlap};
pub use plan::{Disposition, Fire, NewRun, Plan, Trigger, Unplannable, plan};
pub(crate) use plan::{FleetPlan, Kept, KeptPlan, Member, NextCopy, Standing};

/// The shortest period of `fixed_delay` and `fixed_rate`.
pub const PERIOD_MIN: TimeDelta = TimeDelta::seconds(1);

/// What decides a schedule's fire times: its definition and what became of it so far.
///
/// The row of `watchbell.schedules` without what only its runs need. Intervals are elapsed time.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its number; with the fire time it decides the jitter.
    pub id: i64,
    /// The one spec that is set.
    pub spec: Spec,
    /// `Pending` is planned afresh, `Normal` from `wake_at`.
    pub status: Status,
    /// When the spec as it stands was written: no slot before it is ever fired or missed.
    pub effective_from: DateTime<Utc>,
    /// The first slot of `fixed_rate` and `fixed_delay`, once it is known.
    pub anchor_at: Option<DateTime<Utc>>,
    /// Where the first slot of `fixed_rate` and `fixed_delay` lies if `starts_at` is not given.
    pub first_fire: FirstFire,
    /// Nothing fires before it.
    pub starts_at: Option<DateTime<Utc>>,
    /// Nothing fires at or after it.
    pub ends_at: Option<DateTime<Utc>>,
    /// How many runs it may make in all.
    pub max_fires: Option<i64>,
    /// How many runs it has made.
    pub fires_count: i64,
    /// The last slot that is accounted for, whatever became of it.
    pub last_fire_at: Option<DateTime<Utc>>,
    /// When its last run ended; `fixed_delay` counts from it.
    pub last_finished_at: Option<DateTime<Utc>>,
    /// The next fire time as planned last; `None` while it is infinite.
    pub wake_at: Option<DateTime<Utc>>,
    /// What becomes of a slot that comes due while earlier runs are open.
    pub overlap: Overlap,
    /// How many open runs count as too many (at least 1); `allow` has its own ceiling.
    pub max_running: u32,
    /// What becomes of slots that nobody acted on in time.
    pub misfire: Misfire,
    /// How long after it is due a run may still start.
    pub start_deadline: Option<TimeDelta>,
    /// By how much at most a run is put off after its slot.
    pub jitter: TimeDelta,
}

impl Schedule {
    /// A schedule as it is just after `insert into watchbell.schedules`, all other columns at their defaults.
    pub fn new(id: i64, spec: Spec, written_at: DateTime<Utc>) -> Self {
        Self {
            id,
            spec,
            status: Status::Pending,
            effective_from: written_at,
            anchor_at: None,
            first_fire: FirstFire::AfterPeriod,
            starts_at: None,
            ends_at: None,
            max_fires: None,
            fires_count: 0,
            last_fire_at: None,
            last_finished_at: None,
            wake_at: None,
            overlap: Overlap::Allow,
            max_running: 1,
            misfire: Misfire::FireOnce,
            start_deadline: None,
            jitter: TimeDelta::zero(),
        }
    }
}

/// What a schedule's fire times follow from.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// The matching times of a wall clock.
    Cron(Arc<Cron>),
    /// So long after the last run ended.
    FixedDelay(TimeDelta),
    /// Every so often from an anchor, whether or not the last run ended.
    FixedRate(TimeDelta),
    /// One instant.
    Once(DateTime<Utc>),
}

impl Spec {
    /// Reads the text of the column `cron`; `@every 5m` in it is a `FixedRate`.
    ///
    /// # Errors
    /// One sentence naming the field, its value and its range, as [`Cron::parse`].
    pub fn cron(text: &str, timezone: &str, dst: Dst) -> Result<Self, CronError> {
        match cron::every(text)? {
            Some(period) => Ok(Self::FixedRate(period)),
            None => Cron::cached(text, timezone, dst).map(Self::Cron),
        }
    }
}

/// A schedule's status as the column has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Just written or edited: to be planned afresh.
    Pending,
    /// Planned; `wake_at` is its next fire time.
    Normal,
    /// It can never fire again.
    Done,
    /// It cannot be planned; its `error` says why.
    Invalid,
}

/// Where the first slot of `fixed_rate` and `fixed_delay` lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FirstFire {
    /// One period after the schedule was written: a new 30-day clean-up does not delete at once.
    #[default]
    AfterPeriod,
    /// When the schedule was written.
    AtOnce,
}

/// A word that is not one of those a column takes.
///
/// ```
/// use watchbell::schedule::{Overlap, UnknownWord};
///
/// let error: UnknownWord = "never".parse::<Overlap>().unwrap_err();
/// assert!(error.to_string().starts_with("overlap \"never\" is not one of allow, skip"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{column} \"{found}\" is not one of {known}")]
pub struct UnknownWord {
    column: &'static str,
    found: String,
    known: &'static str,
}

/// Gives an enum the words of its column: `as_str`, `Display` and `FromStr` with a one-sentence error.
macro_rules! words {
    ($type:ident, $column:literal, $known:literal, $($variant:ident = $word:literal),+ $(,)?) => {
        impl $type {
            /// The word the column has for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $type {
            type Err = $crate::schedule::UnknownWord;
            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::schedule::UnknownWord { column: $column, found: word.to_owned(), known: $known }),
                }
            }
        }
    };
}
use words;

words!(
    Status,
    "status",
    "pending, normal, done, invalid",
    Pending = "pending",
    Normal = "normal",
    Done = "done",
    Invalid = "invalid"
);
words!(FirstFire, "first_fire", "after_period, at_once", AfterPeriod = "after_period", AtOnce = "at_once");

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron) => write!(f, "{cron}"),
            Self::FixedDelay(delay) => write!(f, "{} after each end", crate::duration::words(*delay)),
            Self::FixedRate(period) => write!(f, "every {}", crate::duration::words(*period)),
            Self::Once(at) => write!(f, "once at {}", at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
        }
    }
}

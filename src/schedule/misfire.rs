//! Fire times that passed while nobody could act: which of them are made up for.

use chrono::{DateTime, TimeDelta, Utc};

use super::slots::{Slots, earlier, just_before};
use super::{Disposition, UnknownWord};

/// What becomes of the slots in (last fire, now].
///
/// Whatever the policy, it takes the newest so many of them; the rest are one gap.
///
/// ```
/// use watchbell::schedule::Misfire;
///
/// let report = watchbell::cron("0 2 * * *").misfire(Misfire::FireOnce); // after an outage: the latest only
/// # let _ = report;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfire {
    /// The latest one only, however late.
    FireOnce,
    /// The latest one if it is at most `grace` late, else none.
    Skip {
        /// How late is still in time.
        grace: TimeDelta,
    },
    /// The latest one, and the others at most `window` old; at most `limit` in all, oldest first.
    CatchUp {
        /// How old a slot may be.
        window: TimeDelta,
        /// How many slots at most.
        limit: u32,
    },
}

impl Misfire {
    /// Puts together the columns `misfire`, `misfire_grace`, `catch_up_window` and `catch_up_limit`.
    ///
    /// # Errors
    /// The word is not `fire_once`, `skip` or `catch_up`.
    pub fn from_columns(word: &str, grace: TimeDelta, window: TimeDelta, limit: u32) -> Result<Self, UnknownWord> {
        match word {
            "fire_once" => Ok(Self::FireOnce),
            "skip" => Ok(Self::Skip { grace }),
            "catch_up" => Ok(Self::CatchUp { window, limit }),
            _ => Err(UnknownWord { column: "misfire", found: word.to_owned(), known: "fire_once, skip, catch_up" }),
        }
    }

    /// How many of the slots in (`after`, `until`] are acted on: the newest so many.
    ///
    /// There is at least one such slot, and `latest` is the last of them.
    pub(super) fn takes(
        self,
        slots: &Slots<'_>,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
        latest: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> u64 {
        match self {
            Self::FireOnce => 1,
            Self::Skip { grace } => u64::from(now - latest <= grace),
            Self::CatchUp { window, limit } => {
                // A slot exactly `window` old is still within it; the step back makes the bound inclusive.
                let oldest = just_before(earlier(now, window));
                slots.count(after.max(oldest), until).clamp(1, u64::from(limit.max(1)))
            }
        }
    }

    /// What the slots that it leaves out are recorded as.
    pub(super) fn leaves_out_as(self) -> Disposition {
        match self {
            Self::FireOnce => Disposition::Coalesced,
            Self::Skip { .. } | Self::CatchUp { .. } => Disposition::SkippedMisfire,
        }
    }
}

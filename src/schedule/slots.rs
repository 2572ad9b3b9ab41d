//! The fire times of a schedule as a set that can be searched and counted without walking it.

use chrono::{DateTime, TimeDelta, Utc};

use super::cron::Cron;

/// The time so much later, or the end of time.
pub(super) fn later(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The time so much earlier, or the beginning of time.
pub(super) fn earlier(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_sub_signed(by).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// The last time before this one: PostgreSQL counts microseconds.
pub(super) fn just_before(at: DateTime<Utc>) -> DateTime<Utc> {
    earlier(at, TimeDelta::microseconds(1))
}

/// The slots of a spec that has many.
#[derive(Debug)]
pub(super) enum Slots<'a> {
    /// Those of a wall clock.
    Cron(&'a Cron),
    /// anchor + k × period for k = 0, 1, 2, …
    Rate(Rate),
}

/// An arithmetic sequence of instants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    anchor: DateTime<Utc>,
    period_us: i64,
}

impl Rate {
    /// Every `period` from `anchor` on. The period is elapsed time in whole milliseconds, at least 1 s.
    pub(super) fn new(anchor: DateTime<Utc>, period: TimeDelta) -> Self {
        Self { anchor, period_us: period.num_milliseconds().clamp(1_000, i64::MAX / 1_000) * 1_000 }
    }

    /// How many slots there are up to and including `until`.
    fn count_to(self, until: DateTime<Utc>) -> u64 {
        // whole microseconds, as the database keeps them: an anchor with nanoseconds would precede its own slot
        let elapsed_us = i128::from(until.timestamp_micros()) - i128::from(self.anchor.timestamp_micros());
        if elapsed_us < 0 {
            return 0;
        }
        (elapsed_us / i128::from(self.period_us)) as u64 + 1
    }

    /// Slot number `k`; `None` beyond the end of time.
    fn slot(self, k: u64) -> Option<DateTime<Utc>> {
        let at_us = i128::from(self.anchor.timestamp_micros()) + i128::from(k) * i128::from(self.period_us);
        DateTime::from_timestamp_micros(i64::try_from(at_us).ok()?)
    }
}

impl Slots<'_> {
    /// The first slot later than `after`.
    pub(super) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.next(after),
            Self::Rate(rate) => rate.slot(rate.count_to(after)),
        }
    }

    /// The last slot at or before `until`.
    pub(super) fn latest(&self, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.previous(until),
            Self::Rate(rate) => rate.count_to(until).checked_sub(1).and_then(|k| rate.slot(k)),
        }
    }

    /// How many slots lie in (`after`, `until`].
    pub(super) fn count(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> u64 {
        match self {
            Self::Cron(cron) => cron.count(after, until),
            Self::Rate(rate) => rate.count_to(until).saturating_sub(rate.count_to(after)),
        }
    }

    /// The newest `n` slots at or before `until`, oldest first, where `latest` is the last of them.
    ///
    /// Finds the place from which there are `n` by counting, not by walking back.
    pub(super) fn newest(&self, n: u64, after: DateTime<Utc>, latest: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        match n {
            0 => return Vec::new(),
            1 => return vec![latest],
            _ => {}
        }
        // Seconds before `latest` from where there are at least `n` (`enough`), and fewer (`short`).
        let (mut short, mut enough, most) = (0, 1, (latest - after).num_seconds() + 1);
        let count = |seconds| self.count(earlier(latest, TimeDelta::seconds(seconds)), latest);
        while enough < most && count(enough) < n {
            (short, enough) = (enough, most.min(enough * 2));
        }
        while enough - short > 1 {
            let middle = short + (enough - short) / 2;
            if count(middle) >= n { enough = middle } else { short = middle }
        }
        let mut slots = Vec::with_capacity(n as usize);
        let mut at = after.max(earlier(latest, TimeDelta::seconds(enough)));
        while let Some(slot) = self.next(at).filter(|&slot| slot <= latest) {
            slots.push(slot);
            at = slot;
        }
        slots.split_off(slots.len().saturating_sub(n as usize))
    }
}

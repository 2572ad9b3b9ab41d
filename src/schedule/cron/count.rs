//! How many fire times lie between two instants, by arithmetic: a year of seconds costs microseconds.

use chrono::{DateTime, NaiveDateTime, NaiveTime, Timelike, Utc};

use super::{Cron, FIRST, LAST, Rule, Times, wall_time};

impl Cron {
    /// How many fire times lie after `after`, up to and including `until`.
    pub fn count(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> u64 {
        if self.never_fires() {
            return 0;
        }
        let mut from = after.timestamp().saturating_add(1).max(FIRST);
        let last = until.timestamp().min(LAST);
        let mut count = 0;
        while from <= last {
            let stretch = self.zone.stretch(from);
            let end = stretch.end.min(last + 1);
            let (shown, shown_end) = (from + stretch.offset, end + stretch.offset);
            let low = self.rule.wall_at(stretch, from);
            count += self.count_wall(low.max(shown), shown_end);
            // All that the gap left out is one fire time at its end, unless there is one then anyway.
            if self.rule == Rule::Once && low < shown && self.count_wall(low, shown) > 0 {
                count += 1 - self.count_wall(shown, shown + 1);
            }
            from = stretch.end;
        }
        count
    }

    /// How many matches lie in `low..high` of wall time.
    pub(super) fn count_wall(&self, low: i64, high: i64) -> u64 {
        if low >= high {
            return 0;
        }
        let (low, high) = (wall_time(low), wall_time(high));
        let before = |wall: NaiveDateTime| {
            if self.days.contains(wall.date()) { self.times.count_before(wall.time()) } else { 0 }
        };
        self.days.count(low.date(), high.date()) * self.times.count() + before(high) - before(low)
    }
}

impl Times {
    /// How many there are in a day.
    fn count(&self) -> u64 {
        u64::from(self.hours.len() * self.minutes.len() * self.seconds.len())
    }

    /// How many there are before a time of day.
    fn count_before(&self, time: NaiveTime) -> u64 {
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        let mut count = self.hours.below(hour) * self.minutes.len() * self.seconds.len();
        if self.hours.contains(hour) {
            count += self.minutes.below(minute) * self.seconds.len();
            if self.minutes.contains(minute) {
                count += self.seconds.below(second);
            }
        }
        u64::from(count)
    }
}

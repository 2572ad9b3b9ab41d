//! Previews: the slots to come, and for a backfill those that were.

use chrono::{DateTime, Utc};

use crate::schedule::slots::{Rate, Slots, just_before};
use crate::schedule::{Schedule, Spec};

impl Schedule {
    /// The first `n` slots later than `after`, within `starts_at` and `ends_at`.
    ///
    /// Of `fixed_delay` and `once` there is one at most. Past slots of `cron` and `fixed_rate` are given
    /// too, also those from before the schedule was written.
    pub fn upcoming(&self, after: DateTime<Utc>, n: usize) -> Vec<DateTime<Utc>> {
        let from = self.starts_at.map_or(after, |at| after.max(just_before(at)));
        let one = |slot: Option<DateTime<Utc>>| slot.filter(|&slot| slot > from).into_iter().collect::<Vec<_>>();
        let mut slots = match &self.spec {
            Spec::Cron(cron) => cron.upcoming(from, n),
            Spec::FixedRate(period) => {
                let slots = Slots::Rate(Rate::new(self.anchor(*period), *period));
                std::iter::successors(slots.next(from), |&slot| slots.next(slot)).take(n).collect()
            }
            Spec::FixedDelay(delay) => one(self.delay_slot(*delay, after).0),
            Spec::Once(at) => one(Some(*at)),
        };
        slots.truncate(n);
        slots.retain(|&slot| self.ends_at.is_none_or(|end| slot < end));
        slots
    }
}

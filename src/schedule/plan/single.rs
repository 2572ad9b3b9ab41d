//! Planning of specs with one slot at a time: `fixed_delay` and `once`.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Disposition, Plan, Trigger};
use crate::schedule::slots::later;
use crate::schedule::{FirstFire, Open, Schedule, Status};

impl Schedule {
    /// A late fixed delay always runs, and never beside another run: the end of each sets the next.
    pub(super) fn plan_delay(&self, delay: TimeDelta, now: DateTime<Utc>, open: Open) -> Plan {
        let (slot, anchor_at) = self.delay_slot(delay, now);
        if open.total > 0 {
            return Plan::wake(None, anchor_at);
        }
        let Some(slot) = slot else {
            return Plan::wake(None, anchor_at);
        };
        if self.ends_at.is_some_and(|end| slot >= end) {
            return Plan::done(anchor_at);
        }
        if slot > now {
            return Plan::wake(Some(slot), anchor_at);
        }
        let mut plan = Plan::wake(None, anchor_at);
        match self.new_run(slot, now, false, Trigger::Schedule) {
            Some(run) => plan.start(Disposition::Run, slot, run),
            None => {
                // It ends here, so that the next one counts from here: no run's end will set it.
                plan.pass_over(Disposition::Expired, slot, slot, 1);
                plan.wake_at = Some(later(now, delay)).filter(|&next| self.ends_at.is_none_or(|end| next < end));
            }
        }
        let over = plan.runs() == 0 && plan.wake_at.is_none();
        if over || self.fires_left() == plan.runs() as u64 {
            plan.status = Status::Done;
        }
        plan
    }

    /// The next slot of a fixed delay if no run is open, and its anchor.
    pub(super) fn delay_slot(
        &self,
        delay: TimeDelta,
        now: DateTime<Utc>,
    ) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        if self.status == Status::Normal {
            return (self.wake_at, self.anchor_at);
        }
        let from = self.starts_at.unwrap_or(DateTime::<Utc>::MIN_UTC);
        if let Some(ended) = self.last_finished_at.or(self.last_fire_at) {
            // behind the last one even if the clock was set back, or its key in `fires` would be taken
            let behind = self.last_fire_at.map_or(from, |last| later(last, TimeDelta::microseconds(1)).max(from));
            return (Some(later(ended, delay).max(now).max(behind)), self.anchor_at);
        }
        let first = self.first_of_delay(delay);
        (Some(first), Some(first))
    }

    /// The slot of its first run.
    pub(super) fn first_of_delay(&self, delay: TimeDelta) -> DateTime<Utc> {
        self.anchor_at.unwrap_or(match (self.starts_at, self.first_fire) {
            (Some(from), _) => from.max(self.effective_from),
            (None, FirstFire::AtOnce) => self.effective_from,
            (None, FirstFire::AfterPeriod) => later(self.effective_from, delay),
        })
    }

    /// One instant, however late it is.
    pub(super) fn plan_once(&self, at: DateTime<Utc>, now: DateTime<Utc>) -> Plan {
        if self.last_fire_at.is_some_and(|last| at <= last) {
            return Plan::done(self.anchor_at);
        }
        if at > now {
            return Plan::wake(Some(at), self.anchor_at);
        }
        let mut plan = Plan::done(self.anchor_at);
        match self.new_run(at, now, false, Trigger::Schedule) {
            Some(run) => plan.start(Disposition::Run, at, run),
            None => plan.pass_over(Disposition::Expired, at, at, 1),
        }
        plan
    }
}

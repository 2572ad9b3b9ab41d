//! Planning of specs with many slots: `cron` and `fixed_rate`.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Disposition, Plan, Trigger, Unplannable, rfc3339};
use crate::schedule::overlap::{Admission, Open};
use crate::schedule::slots::{Slots, just_before, later};
use crate::schedule::{FirstFire, Misfire, Schedule, Spec, Status};

impl Schedule {
    /// The first slot of a fixed rate; all others follow from it.
    ///
    /// Once chosen it stays. A schedule that ran under another spec goes on from its last slot: the new
    /// period counts from the last start, as the kind says.
    pub(super) fn anchor(&self, period: TimeDelta) -> DateTime<Utc> {
        self.anchor_at.or(self.starts_at).or(self.last_fire_at).unwrap_or(match self.first_fire {
            FirstFire::AfterPeriod => later(self.effective_from, period),
            FirstFire::AtOnce => self.effective_from,
        })
    }

    pub(super) fn plan_series(
        &self,
        slots: &Slots<'_>,
        anchor_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        open: Open,
    ) -> Result<Plan, Unplannable> {
        let mut plan = Plan::wake(None, anchor_at);
        let after = self.accounted_to();
        let until = self.ends_at.map_or(now, |end| now.min(just_before(end)));
        if let Some(latest) = slots.latest(until).filter(|&latest| latest > after) {
            self.fire_due(&mut plan, slots, Due { after, until, latest, now }, open);
        }
        if self.fires_left() == plan.runs() as u64 {
            plan.status = Status::Done;
            return Ok(plan);
        }
        let next = slots.next(now.max(after));
        plan.wake_at = next.filter(|&slot| self.ends_at.is_none_or(|end| slot < end));
        if plan.wake_at.is_none() {
            plan.status = Status::Done;
        }
        match &self.spec {
            Spec::Cron(cron) if next.is_none() && plan.fires.is_empty() && self.last_fire_at.is_none() => {
                Err(Unplannable(format!("cron expression \"{cron}\" has no fire time after {}", rfc3339(after))))
            }
            _ => Ok(plan),
        }
    }

    /// The instant up to which every slot is accounted for: those after it are due, or still to come.
    fn accounted_to(&self) -> DateTime<Utc> {
        let last = self.last_fire_at.unwrap_or(DateTime::<Utc>::MIN_UTC);
        if let (Status::Normal, Some(wake_at)) = (self.status, self.wake_at) {
            return just_before(wake_at).max(last);
        }
        // Planned afresh: from when the spec was written. A wall clock's slot at that very instant has
        // passed; `starts_at` and a fixed rate's first slot are slots if they say so.
        let written = match self.spec {
            Spec::Cron(_) => self.effective_from,
            _ => just_before(self.effective_from),
        };
        let start = match self.starts_at {
            Some(from) if from >= self.effective_from => just_before(from),
            _ => written,
        };
        start.max(last)
    }

    fn fire_due(&self, plan: &mut Plan, slots: &Slots<'_>, due: Due, mut open: Open) {
        let takes = self.misfire.takes(slots, due.after, due.until, due.latest, due.now);
        let taken = slots.newest(takes, due.after, due.latest);
        let left_out = slots.count(due.after, due.until) - taken.len() as u64;
        if left_out > 0 {
            let last = taken.first().map_or(Some(due.latest), |&first| slots.latest(just_before(first)));
            if let (Some(first), Some(last)) = (slots.next(due.after), last) {
                plan.pass_over(self.misfire.leaves_out_as(), first, last, left_out);
            }
        }

        let serialized = self.overlap.serializes();
        let catching_up = matches!(self.misfire, Misfire::CatchUp { .. });
        let runs = taken.iter().map(|&slot| {
            let trigger = if catching_up && slot < due.latest { Trigger::CatchUp } else { Trigger::Schedule };
            (slot, self.new_run(slot, due.now, serialized, trigger))
        });
        let runs: Vec<_> = runs.collect();
        let in_time = runs.iter().filter(|(_, run)| run.is_some()).count() as u64;
        let (cancel_open, mut surplus) = self.overlap.make_room(self.max_running, in_time, open);
        plan.cancel_open = cancel_open;

        let mut left = self.fires_left();
        for (slot, run) in runs {
            if left == 0 {
                break;
            }
            let Some(run) = run else {
                plan.pass_over(Disposition::Expired, slot, slot, 1);
                continue;
            };
            let admission = match surplus.checked_sub(1) {
                Some(rest) => {
                    surplus = rest;
                    Admission::Drop
                }
                None => self.overlap.admit(self.max_running, &mut open),
            };
            match (admission, run.trigger) {
                (Admission::Drop, _) => plan.pass_over(Disposition::SkippedOverlap, slot, slot, 1),
                (Admission::Wait, _) => plan.start(Disposition::Queued, slot, run),
                (Admission::Run, Trigger::CatchUp) => plan.start(Disposition::CaughtUp, slot, run),
                (Admission::Run, _) => plan.start(Disposition::Run, slot, run),
            }
            left -= u64::from(admission != Admission::Drop);
        }
    }
}

/// The slots that are due: those in (`after`, `until`], of which `latest` is the last.
#[derive(Debug, Clone, Copy)]
struct Due {
    after: DateTime<Utc>,
    until: DateTime<Utc>,
    latest: DateTime<Utc>,
    now: DateTime<Utc>,
}

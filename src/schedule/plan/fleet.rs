//! Planning of a schedule that runs on every worker: the slots are those of any other, but `overlap` and
//! `max_running` count what each worker has open by itself.

use chrono::{DateTime, Utc};

use super::{Disposition, NewRun, Plan, Unplannable, plan};
use crate::schedule::overlap::{Admission, Open, Overlap};
use crate::schedule::slots::later;
use crate::schedule::{Schedule, Spec, Status};

/// A worker that matches, and what it has open of the schedule.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its number.
    pub(crate) worker: i32,
    /// How many of its runs are open.
    pub(crate) open: Open,
    /// Which.
    pub(crate) runs: Vec<i64>,
}

/// What the fire stage writes about a schedule that runs on every worker.
#[derive(Debug)]
pub(crate) struct FleetPlan {
    /// As of any schedule; a slot with runs has one of them.
    pub(crate) plan: Plan,
    /// The runs of those slots.
    pub(crate) starts: Vec<Start>,
    /// How many workers matched.
    pub(crate) workers: usize,
    /// Open runs that are to be asked to stop.
    pub(crate) stop: Vec<i64>,
}

/// One run on one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) fire_at: DateTime<Utc>,
    /// Of the slot as a whole.
    pub(crate) disposition: Disposition,
    pub(crate) worker: i32,
    pub(crate) run: NewRun,
}

impl Schedule {
    /// Decides what becomes of the slots up to `now` on each worker; `open` counts the runs of all.
    pub(crate) fn plan_fleet(
        &self,
        now: DateTime<Utc>,
        open: Open,
        members: &[Member],
    ) -> Result<FleetPlan, Unplannable> {
        if self.fires_left() == 0 {
            return Ok(FleetPlan { plan: Plan::done(self.anchor_at), starts: vec![], workers: 0, stop: vec![] });
        }
        // The slots that act, as if nothing were open: what is open is looked at worker by worker. A fixed delay
        // counts from the end of the last of them.
        let mut slots = self.clone();
        (slots.overlap, slots.max_fires) = (Overlap::Allow, None);
        let fixed_delay = matches!(self.spec, Spec::FixedDelay(_));
        let mut plan = plan(&slots, now, if fixed_delay { open } else { Open::default() })?;
        let fires = std::mem::take(&mut plan.fires);
        let due = fires.iter().filter(|fire| fire.run.is_some()).count() as u64;
        let mut fleet = FleetPlan { plan, starts: vec![], workers: members.len(), stop: vec![] };
        let mut places: Vec<Place> = members.iter().map(|member| self.place(member, due, &mut fleet.stop)).collect();
        let mut left = self.fires_left();
        for fire in fires {
            let Some(run) = fire.run else {
                fleet.plan.fires.push(fire);
                continue;
            };
            if left == 0 {
                break;
            }
            let run = NewRun { serialized: self.overlap.serializes(), ..run };
            let admitted: Vec<(i32, Admission)> =
                places.iter_mut().map(|place| (place.worker, place.admit(self))).collect();
            let starting: Vec<_> = admitted.iter().filter(|(_, admission)| *admission != Admission::Drop).collect();
            if starting.is_empty() {
                let why = if members.is_empty() { Disposition::SkippedNoWorker } else { Disposition::SkippedOverlap };
                fleet.plan.pass_over(why, fire.fire_at, fire.fire_at, 1);
                continue;
            }
            left -= 1;
            let all_wait = starting.iter().all(|(_, admission)| *admission == Admission::Wait);
            let disposition = if all_wait { Disposition::Queued } else { fire.disposition };
            fleet.plan.start(disposition, fire.fire_at, run);
            fleet.starts.extend(starting.iter().map(|&&(worker, _)| Start {
                fire_at: fire.fire_at,
                disposition,
                worker,
                run,
            }));
        }
        self.settle(&mut fleet.plan, left, now);
        Ok(fleet)
    }

    /// The next time of a fixed delay that started nothing, and whether it was the last.
    fn settle(&self, plan: &mut Plan, left: u64, now: DateTime<Utc>) {
        if let Spec::FixedDelay(delay) = self.spec
            && plan.runs() == 0
            && !plan.fires.is_empty()
        {
            plan.wake_at = Some(later(now, delay)).filter(|&next| self.ends_at.is_none_or(|end| next < end));
            plan.status = if plan.wake_at.is_some() { Status::Normal } else { Status::Done };
        }
        if left == 0 {
            (plan.wake_at, plan.status) = (None, Status::Done);
        }
    }

    fn place(&self, member: &Member, due: u64, stop: &mut Vec<i64>) -> Place {
        let (cancel, surplus) = self.overlap.make_room(self.max_running, due, member.open);
        if cancel {
            stop.extend(&member.runs);
        }
        Place { worker: member.worker, open: member.open, surplus }
    }
}

/// One worker while slot after slot is decided.
struct Place {
    worker: i32,
    open: Open,
    /// How many of the oldest slots are dropped, as newer ones would stop them at once.
    surplus: u64,
}

impl Place {
    fn admit(&mut self, schedule: &Schedule) -> Admission {
        match self.surplus.checked_sub(1) {
            Some(rest) => {
                self.surplus = rest;
                Admission::Drop
            }
            None => schedule.overlap.admit(schedule.max_running, &mut self.open),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, TimeZone};

    use super::*;
    use crate::schedule::FirstFire;

    fn noon() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2030, 1, 1, 12, 0, 0).unwrap()
    }

    fn every_minute(overlap: Overlap) -> Schedule {
        let mut schedule = Schedule::new(1, Spec::FixedRate(TimeDelta::minutes(1)), noon());
        (schedule.first_fire, schedule.overlap) = (FirstFire::AtOnce, overlap);
        schedule
    }

    fn member(worker: i32, total: u32, waiting: u32) -> Member {
        Member { worker, open: Open { total, waiting }, runs: vec![i64::from(worker)] }
    }

    fn decided(overlap: Overlap, members: &[Member]) -> (Disposition, Vec<i32>, Vec<i64>) {
        let fleet = every_minute(overlap).plan_fleet(noon(), Open::default(), members).unwrap();
        let workers = fleet.starts.iter().map(|start| start.worker).collect();
        (fleet.plan.fires[0].disposition, workers, fleet.stop)
    }

    #[test]
    fn each_worker_overlaps_with_itself_alone() {
        let (free, busy) = (member(1, 0, 0), member(2, 1, 0));
        let both = [free, busy.clone()];
        assert_eq!(decided(Overlap::Allow, &both), (Disposition::Run, vec![1, 2], vec![]));
        assert_eq!(decided(Overlap::Skip, &both), (Disposition::Run, vec![1], vec![]));
        assert_eq!(decided(Overlap::QueueOne, &both), (Disposition::Run, vec![1, 2], vec![]));
        assert_eq!(decided(Overlap::CancelRunning, &both), (Disposition::Run, vec![1, 2], vec![2]));
        assert_eq!(decided(Overlap::QueueAll, &[busy]), (Disposition::Queued, vec![2], vec![]));
        assert_eq!(decided(Overlap::QueueOne, &[member(2, 2, 1)]), (Disposition::SkippedOverlap, vec![], vec![]));
    }

    #[test]
    fn without_a_worker_the_slot_is_skipped_and_counts_for_nothing() {
        let mut schedule = every_minute(Overlap::Allow);
        schedule.max_fires = Some(1);
        let fleet = schedule.plan_fleet(noon(), Open::default(), &[]).unwrap();
        assert_eq!(fleet.plan.fires[0].disposition, Disposition::SkippedNoWorker);
        assert_eq!((fleet.plan.runs(), fleet.plan.status), (0, Status::Normal));
        let fleet = schedule.plan_fleet(noon(), Open::default(), &[member(1, 0, 0), member(2, 0, 0)]).unwrap();
        assert_eq!((fleet.plan.runs(), fleet.plan.status, fleet.starts.len()), (1, Status::Done, 2));
    }

    #[test]
    fn a_fixed_delay_waits_for_the_last_worker_and_tries_again_without_any() {
        let delay = TimeDelta::minutes(5);
        let mut schedule = Schedule::new(1, Spec::FixedDelay(delay), noon());
        schedule.first_fire = FirstFire::AtOnce;
        let fleet = schedule.plan_fleet(noon(), Open::default(), &[]).unwrap();
        assert_eq!((fleet.plan.wake_at, fleet.plan.status), (Some(noon() + delay), Status::Normal));
        let open = Open { total: 1, waiting: 0 };
        let fleet = schedule.plan_fleet(noon(), open, &[member(1, 0, 0), member(2, 1, 0)]).unwrap();
        assert_eq!((fleet.plan.fires.len(), fleet.plan.wake_at), (0, None));
    }
}

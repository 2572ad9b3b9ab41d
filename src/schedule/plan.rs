//! What to do about a schedule now: the fire times that are due, what becomes of each, and the next one.

mod fleet;
mod kept;
mod series;
mod single;
mod upcoming;

use chrono::{DateTime, Utc};

use super::slots::{Rate, Slots, later};
use super::{Open, PERIOD_MIN, Schedule, Spec, Status, jitter, words};
use crate::duration;

pub(crate) use fleet::{FleetPlan, Member};
pub(crate) use kept::{Kept, KeptPlan, NextCopy, Standing};

/// What the fire stage writes about one schedule, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The slots that are accounted for now, oldest first; one row of `fires` each.
    pub fires: Vec<Fire>,
    /// The next fire time; `None` (infinite) when there is none, or a run's end will set it.
    pub wake_at: Option<DateTime<Utc>>,
    /// `Normal`, or `Done` when it can never fire again.
    pub status: Status,
    /// The first slot of `fixed_rate` and `fixed_delay`: to be kept.
    pub anchor_at: Option<DateTime<Utc>>,
    /// Whether the runs that were open before are to be asked to stop.
    pub cancel_open: bool,
}

/// One row of `watchbell.fires`: a slot, or a gap of several of which none is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fire {
    /// The slot: the nominal time, without jitter. For a gap its first one.
    pub fire_at: DateTime<Utc>,
    /// What became of it.
    pub disposition: Disposition,
    /// The run to insert.
    pub run: Option<NewRun>,
    /// The last slot of a gap of two or more.
    pub until: Option<DateTime<Utc>>,
    /// How many slots this row stands for that are not run: 0 with a run, else 1 or more.
    pub missed: u64,
}

/// A run to insert for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRun {
    /// When it is due: the slot and its jitter.
    pub run_at: DateTime<Utc>,
    /// If it has not started by then it is cancelled.
    pub start_deadline: Option<DateTime<Utc>>,
    /// Whether it takes turns with the schedule's other runs (concurrency key `schedule:<id>`).
    pub serialized: bool,
    /// What made it.
    pub trigger: Trigger,
}

/// What became of a slot, as `fires.disposition` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// A run, in time or as the latest of several.
    Run,
    /// A run for an older slot that nobody acted on in time.
    CaughtUp,
    /// A run that waits for an earlier one to end.
    Queued,
    /// Dropped, because earlier runs are open.
    SkippedOverlap,
    /// Dropped, because nobody acted on it in time.
    SkippedMisfire,
    /// Dropped, because no live worker matched its target `all`.
    SkippedNoWorker,
    /// Stood for by the run of a later slot.
    Coalesced,
    /// Dropped, because its start deadline has passed.
    Expired,
}

words!(
    Disposition,
    "disposition",
    "run, caught_up, queued, skipped_overlap, skipped_misfire, skipped_no_worker, coalesced, expired",
    Run = "run",
    CaughtUp = "caught_up",
    Queued = "queued",
    SkippedOverlap = "skipped_overlap",
    SkippedMisfire = "skipped_misfire",
    SkippedNoWorker = "skipped_no_worker",
    Coalesced = "coalesced",
    Expired = "expired",
);

/// What made a run, of the values of `runs.trigger` that a schedule's slots have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Its slot came due.
    Schedule,
    /// Its slot was made up for.
    CatchUp,
    /// A copy of what is kept alive started, or started again.
    KeepAlive,
}

words!(
    Trigger,
    "trigger",
    "schedule, catch_up, keep_alive",
    Schedule = "schedule",
    CatchUp = "catch_up",
    KeepAlive = "keep_alive",
);

/// Why a schedule cannot be planned; becomes its `error`, and its status `invalid`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unplannable(String);

impl Plan {
    /// How many runs it makes, to be added to `fires_count`.
    pub fn runs(&self) -> i64 {
        self.fires.iter().filter(|fire| fire.run.is_some()).count() as i64
    }

    /// The last slot it accounts for, to be kept as `last_fire_at`; `None` leaves that as it is.
    pub fn last_fire_at(&self) -> Option<DateTime<Utc>> {
        self.fires.last().map(|fire| fire.until.unwrap_or(fire.fire_at))
    }

    fn done(anchor_at: Option<DateTime<Utc>>) -> Self {
        Self { fires: Vec::new(), wake_at: None, status: Status::Done, anchor_at, cancel_open: false }
    }

    fn wake(wake_at: Option<DateTime<Utc>>, anchor_at: Option<DateTime<Utc>>) -> Self {
        Self { wake_at, status: Status::Normal, ..Self::done(anchor_at) }
    }

    /// Records that the slots `first..=last`, `count` of them, are not run; a streak is one row.
    fn pass_over(&mut self, disposition: Disposition, first: DateTime<Utc>, last: DateTime<Utc>, count: u64) {
        match self.fires.last_mut() {
            Some(gap) if gap.disposition == disposition && gap.run.is_none() => {
                gap.until = Some(last);
                gap.missed += count;
            }
            _ => {
                let until = (count > 1).then_some(last);
                self.fires.push(Fire { fire_at: first, disposition, run: None, until, missed: count });
            }
        }
    }

    /// Records that a slot makes a run.
    fn start(&mut self, disposition: Disposition, slot: DateTime<Utc>, run: NewRun) {
        self.fires.push(Fire { fire_at: slot, disposition, run: Some(run), until: None, missed: 0 });
    }
}

/// Decides what becomes of a schedule's slots up to `now`, and when its next one is.
///
/// Repeating it with the same values gives the same plan; planning what it has left behind gives the
/// slots after it and none twice. `open` counts the runs that its slots made and that have not ended.
///
/// # Errors
/// One sentence when the definition contradicts itself or has no fire time at all.
pub fn plan(schedule: &Schedule, now: DateTime<Utc>, open: Open) -> Result<Plan, Unplannable> {
    schedule.check()?;
    if schedule.status == Status::Done || schedule.fires_left() == 0 {
        return Ok(Plan::done(schedule.anchor_at));
    }
    match &schedule.spec {
        Spec::Cron(cron) => schedule.plan_series(&Slots::Cron(cron), schedule.anchor_at, now, open),
        Spec::FixedRate(period) => {
            let anchor = schedule.anchor(*period);
            schedule.plan_series(&Slots::Rate(Rate::new(anchor, *period)), Some(anchor), now, open)
        }
        Spec::FixedDelay(delay) => Ok(schedule.plan_delay(*delay, now, open)),
        Spec::Once(at) => Ok(schedule.plan_once(*at, now)),
    }
}

impl Schedule {
    fn check(&self) -> Result<(), Unplannable> {
        let refuse = |sentence: String| Err(Unplannable(sentence));
        let period = match &self.spec {
            Spec::FixedDelay(delay) => Some(("fixed_delay", *delay)),
            Spec::FixedRate(period) => Some(("fixed_rate", *period)),
            Spec::Cron(_) | Spec::Once(_) => None,
        };
        if let Some((column, period)) = period.filter(|(_, period)| *period < PERIOD_MIN) {
            return refuse(format!("{column} {} is below the minimum of 1s", duration::words(period)));
        }
        if let (Some(from), Some(end)) = (self.starts_at, self.ends_at)
            && end <= from
        {
            return refuse(format!("ends_at {} is not after starts_at {}", rfc3339(end), rfc3339(from)));
        }
        match &self.spec {
            Spec::Once(at)
                if self.starts_at.is_some_and(|from| *at < from) || self.ends_at.is_some_and(|end| *at >= end) =>
            {
                refuse(format!("run_at {} is outside starts_at to ends_at, so it never fires", rfc3339(*at)))
            }
            Spec::Cron(cron) if cron.never_fires() => {
                refuse(format!("cron expression \"{cron}\" never fires: no date matches it"))
            }
            _ => Ok(()),
        }
    }

    /// How many more runs it may make.
    fn fires_left(&self) -> u64 {
        self.max_fires.map_or(u64::MAX, |most| u64::try_from(most.saturating_sub(self.fires_count)).unwrap_or(0))
    }

    /// The run for a slot; `None` when its start deadline has passed.
    fn new_run(&self, slot: DateTime<Utc>, now: DateTime<Utc>, serialized: bool, trigger: Trigger) -> Option<NewRun> {
        let run_at = later(slot, jitter::of_slot(self.id, slot, self.jitter));
        let start_deadline = self.start_deadline.map(|allowed| later(run_at, allowed));
        let in_time = start_deadline.is_none_or(|deadline| now <= deadline);
        in_time.then_some(NewRun { run_at, start_deadline, serialized, trigger })
    }
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

//! Planning of a fixed delay that is kept alive: so many copies of one run, each restarted by itself.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Disposition, NewRun, Plan, Trigger, Unplannable};
use crate::schedule::slots::later;
use crate::schedule::{Schedule, Status};

/// A run that has lived so long was healthy: its restart begins with the shortest pause again.
const HEALTHY: TimeDelta = TimeDelta::minutes(1);

/// The longest pause before a restart, unless the schedule's own delay is longer.
const PAUSE_MAX: TimeDelta = TimeDelta::minutes(5);

/// So many ends in a row within [`HEALTHY`] of the start are a crash loop.
const CRASH_LOOP: u32 = 5;

/// A copy as it was left, or an open run that is no copy's yet.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// From 1 on; `None`: the run is to be taken over as any copy that has none.
    pub(crate) number: Option<u32>,
    /// Its last run, open or over.
    pub(crate) run: Option<i64>,
    /// What that run came to.
    pub(crate) state: Standing,
    /// How often in a row it ended soon after its start.
    pub(crate) restarts: u32,
}

/// Where a copy stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Standing {
    /// Its run waits for a worker, or runs.
    Open,
    /// Its run has ended.
    Ended {
        /// When.
        at: DateTime<Utc>,
        /// For how long it ran; `None`: it never started.
        lived: Option<TimeDelta>,
    },
    /// It starts again at this time.
    Waiting(DateTime<Utc>),
}

/// What the fire stage writes about a schedule that is kept alive.
#[derive(Debug)]
pub(crate) struct KeptPlan {
    /// The starts that are due, as of any schedule.
    pub(crate) plan: Plan,
    /// All copies from now on; others are forgotten.
    pub(crate) copies: Vec<NextCopy>,
    /// Runs of copies that are too many, to be asked to stop.
    pub(crate) stop: Vec<i64>,
    /// Whether one of them ends again and again.
    pub(crate) crash_loop: bool,
}

/// One copy from now on: with an open run, one that starts at `fire_at`, or a time of its restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextCopy {
    pub(crate) number: u32,
    pub(crate) run: Option<i64>,
    pub(crate) fire_at: Option<DateTime<Utc>>,
    pub(crate) restart_at: Option<DateTime<Utc>>,
    pub(crate) restarts: u32,
}

impl NextCopy {
    fn waiting(number: u32, restart_at: DateTime<Utc>, restarts: u32) -> Self {
        Self { number, run: None, fire_at: None, restart_at: Some(restart_at), restarts }
    }
}

/// The pause before a restart: the schedule's delay, doubled with each end that came too soon.
fn pause(delay: TimeDelta, restarts: u32) -> TimeDelta {
    let factor = 1_i32 << restarts.saturating_sub(1).min(30);
    delay.checked_mul(factor).unwrap_or(TimeDelta::MAX).min(PAUSE_MAX.max(delay))
}

impl Schedule {
    /// Decides which of `wanted` copies start now, and when the others do.
    pub(crate) fn plan_kept(
        &self,
        delay: TimeDelta,
        wanted: u32,
        now: DateTime<Utc>,
        standing: &[Kept],
    ) -> Result<KeptPlan, Unplannable> {
        self.check()?;
        let nothing = KeptPlan { plan: Plan::done(self.anchor_at), copies: vec![], stop: vec![], crash_loop: false };
        if self.status == Status::Done || self.fires_left() == 0 {
            return Ok(nothing);
        }
        let first = self.first_start(delay);
        let mut kept = KeptPlan { plan: Plan::wake(None, self.anchor_at.or(Some(first))), ..nothing };
        let mut starts = vec![];
        let mut by_number = numbered(standing);
        for number in 1..=wanted {
            let (restarts, slot) = match by_number.remove(&number) {
                None => (0, first),
                Some(Kept { state: Standing::Open, run, restarts, .. }) => {
                    let open = NextCopy { number, run: *run, fire_at: None, restart_at: None, restarts: *restarts };
                    kept.copies.push(open);
                    continue;
                }
                Some(Kept { state: Standing::Waiting(at), restarts, .. }) => (*restarts, *at),
                Some(Kept { state: Standing::Ended { at, lived }, restarts, .. }) => {
                    let restarts = match lived {
                        Some(lived) if *lived >= HEALTHY => 0,
                        Some(_) => restarts.saturating_add(1),
                        None => *restarts,
                    };
                    (restarts, later(*at, pause(delay, restarts)))
                }
            };
            let slot = slot.max(self.effective_from).max(self.starts_at.unwrap_or(slot));
            if self.ends_at.is_none_or(|end| slot < end) {
                starts.push((slot, number, restarts));
            }
        }
        let surplus = by_number.into_values().filter(|copy| matches!(copy.state, Standing::Open));
        kept.stop = surplus.filter_map(|copy| copy.run).collect();
        starts.sort_unstable();
        for (slot, number, restarts) in starts {
            kept.copies.push(self.start_copy(&mut kept.plan, delay, now, (slot, number, restarts)));
        }
        kept.crash_loop = kept.copies.iter().any(|copy| copy.restarts >= CRASH_LOOP);
        kept.plan.wake_at = kept.copies.iter().filter_map(|copy| copy.restart_at).min();
        if kept.copies.is_empty() || self.fires_left() == kept.plan.runs() as u64 {
            kept.plan = Plan { status: Status::Done, wake_at: None, ..kept.plan };
            kept.copies.clear();
        }
        Ok(kept)
    }

    /// When a copy that never ran starts: beside others at once, the first ones as `first_fire` says.
    fn first_start(&self, delay: TimeDelta) -> DateTime<Utc> {
        match self.last_fire_at {
            Some(_) => self.effective_from,
            None => self.first_of_delay(delay),
        }
    }

    /// Starts a copy whose time has come.
    fn start_copy(
        &self,
        plan: &mut Plan,
        delay: TimeDelta,
        now: DateTime<Utc>,
        (slot, number, restarts): (DateTime<Utc>, u32, u32),
    ) -> NextCopy {
        if slot > now || self.fires_left() == plan.runs() as u64 {
            return NextCopy::waiting(number, slot, restarts);
        }
        // a fire time is one start's alone: copies that are due together stand a microsecond apart
        let last = plan.last_fire_at().or(self.last_fire_at);
        let fire_at = last.map_or(slot, |last| later(last, TimeDelta::microseconds(1)).max(slot));
        match self.new_run(fire_at, now, false, Trigger::KeepAlive) {
            Some(run) => {
                let run = NewRun { run_at: run.run_at - (fire_at - slot), ..run };
                plan.start(Disposition::Run, fire_at, run);
                NextCopy { number, run: None, fire_at: Some(fire_at), restart_at: None, restarts }
            }
            None => {
                plan.pass_over(Disposition::Expired, fire_at, fire_at, 1);
                NextCopy::waiting(number, later(now, pause(delay, restarts)), restarts)
            }
        }
    }
}

/// The copies by their numbers; runs without one get the first that are free.
fn numbered(standing: &[Kept]) -> BTreeMap<u32, &Kept> {
    let mut by_number: BTreeMap<u32, &Kept> =
        standing.iter().filter_map(|copy| copy.number.map(|number| (number, copy))).collect();
    let mut free = 1;
    for stranger in standing.iter().filter(|copy| copy.number.is_none()) {
        while by_number.contains_key(&free) {
            free += 1;
        }
        by_number.insert(free, stranger);
    }
    by_number
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;
    use crate::schedule::Spec;

    const DELAY: TimeDelta = TimeDelta::seconds(1);

    fn noon() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2030, 1, 1, 12, 0, 0).unwrap()
    }

    /// One that has started before.
    fn schedule() -> Schedule {
        let mut schedule = Schedule::new(1, Spec::FixedDelay(DELAY), noon() - TimeDelta::hours(1));
        schedule.last_fire_at = Some(noon() - TimeDelta::minutes(30));
        schedule.status = Status::Pending;
        schedule
    }

    fn ended(number: u32, lived: Option<TimeDelta>, restarts: u32) -> Kept {
        Kept { number: Some(number), run: Some(9), state: Standing::Ended { at: noon(), lived }, restarts }
    }

    #[test]
    fn the_pause_doubles_from_the_delay_to_five_minutes() {
        let pauses: Vec<i64> = (0..=10).map(|n| pause(DELAY, n).num_seconds()).collect();
        assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(pause(TimeDelta::hours(2), 7), TimeDelta::hours(2));
        assert_eq!(pause(DELAY, u32::MAX), PAUSE_MAX);
    }

    #[test]
    fn a_minute_of_health_begins_anew_and_a_run_that_never_started_changes_nothing() {
        let restarts = |lived| {
            let kept = schedule().plan_kept(DELAY, 1, noon(), &[ended(1, lived, 7)]).unwrap();
            kept.copies[0].restarts
        };
        assert_eq!(restarts(Some(TimeDelta::seconds(59))), 8);
        assert_eq!(restarts(Some(HEALTHY)), 0);
        assert_eq!(restarts(None), 7);
    }

    #[test]
    fn five_early_ends_in_a_row_are_a_crash_loop() {
        let loops = |restarts| {
            let copies = [ended(1, Some(DELAY), restarts), ended(2, Some(HEALTHY), 0)];
            schedule().plan_kept(DELAY, 2, noon(), &copies).unwrap().crash_loop
        };
        assert!(!loops(3) && loops(4));
    }

    #[test]
    fn each_copy_waits_its_own_pause_and_the_schedule_for_the_first() {
        let copies = [ended(1, Some(DELAY), 3), ended(2, Some(DELAY), 1)];
        let kept = schedule().plan_kept(DELAY, 2, noon(), &copies).unwrap();
        let seconds = |at: Option<DateTime<Utc>>| at.map(|at| (at - noon()).num_seconds());
        let waits = kept.copies.iter().map(|copy| (copy.number, seconds(copy.restart_at)));
        assert_eq!(waits.collect::<Vec<_>>(), [(2, Some(2)), (1, Some(8))]);
        assert_eq!(kept.plan.wake_at, Some(noon() + TimeDelta::seconds(2)));
    }

    #[test]
    fn copies_due_together_have_a_fire_time_each() {
        let copies = [ended(1, None, 0), ended(2, None, 0), ended(3, None, 0)];
        let kept = schedule().plan_kept(DELAY, 3, noon() + DELAY, &copies).unwrap();
        let times: Vec<_> = kept.plan.fires.iter().map(|fire| fire.fire_at).collect();
        assert!(times.len() == 3 && times.is_sorted_by(|a, b| a < b), "{times:?}");
        assert_eq!(kept.plan.wake_at, None);
    }

    #[test]
    fn fewer_copies_stop_the_surplus_and_open_runs_without_a_number_are_taken_over() {
        let open = |number, run| Kept { number, run: Some(run), state: Standing::Open, restarts: 0 };
        let kept = schedule().plan_kept(DELAY, 1, noon(), &[open(Some(1), 5), open(Some(2), 6)]).unwrap();
        assert_eq!((kept.stop, kept.copies.len()), (vec![6], 1));
        let kept = schedule().plan_kept(DELAY, 1, noon(), &[open(None, 5)]).unwrap();
        assert!(kept.stop.is_empty() && kept.copies[0].run == Some(5) && kept.plan.fires.is_empty());
    }

    #[test]
    fn max_fires_and_ends_at_end_the_restarts() {
        let mut last = schedule();
        (last.max_fires, last.fires_count) = (Some(2), 1);
        let copies = [ended(1, None, 0), ended(2, None, 0)];
        let kept = last.plan_kept(DELAY, 2, noon() + DELAY, &copies).unwrap();
        assert_eq!((kept.plan.runs(), kept.plan.status), (1, Status::Done));
        let mut over = schedule();
        over.ends_at = Some(noon());
        let kept = over.plan_kept(DELAY, 2, noon() + DELAY, &copies).unwrap();
        assert_eq!((kept.plan.runs(), kept.plan.status), (0, Status::Done));
    }
}

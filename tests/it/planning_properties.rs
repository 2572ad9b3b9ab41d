//! Whatever the schedule, the outages and the policies: every slot is accounted for exactly once, nothing
//! else fires, and the next fire time only rises.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use watchbell::schedule::{Disposition, Dst, FirstFire, Misfire, Open, Overlap, Plan, Schedule, Spec, Status, plan};

use crate::planning::{apply, schedule};
use crate::table::unix;

/// 2025-01-01, a Wednesday.
const WRITTEN: i64 = 1_735_689_600;

/// A spec, and by itself what its slots are: a second implementation that tries every second.
#[derive(Debug, Clone, Copy)]
enum Kind {
    EveryMinute,
    EverySevenSeconds,
    HourlyFromNineToEleven,
    MondaysAndTheThirdAtHalfPast,
    /// Period in seconds.
    Rate(i64),
}

impl Kind {
    fn spec(self) -> Spec {
        let cron = |text| Spec::cron(text, "UTC", Dst::Once).unwrap();
        match self {
            Self::EveryMinute => cron("* * * * *"),
            Self::EverySevenSeconds => cron("*/7 * * * * *"),
            Self::HourlyFromNineToEleven => cron("0 9-11 * * *"),
            Self::MondaysAndTheThirdAtHalfPast => cron("30 */6 3 * MON"),
            Self::Rate(seconds) => Spec::FixedRate(TimeDelta::seconds(seconds)),
        }
    }

    fn fires_at(self, second: i64, first: i64) -> bool {
        let (day, of_day) = ((second - WRITTEN).div_euclid(86_400), second.rem_euclid(86_400));
        match self {
            Self::EveryMinute => second % 60 == 0,
            Self::EverySevenSeconds => second % 60 % 7 == 0,
            Self::HourlyFromNineToEleven => [9, 10, 11].contains(&(of_day / 3_600)) && of_day % 3_600 == 0,
            // January 2025: the 3rd is day 2, the Mondays are the 6th, 13th, 20th and 27th.
            Self::MondaysAndTheThirdAtHalfPast => (day == 2 || day % 7 == 5) && of_day % 21_600 == 1_800,
            Self::Rate(seconds) => second >= first && (second - first) % seconds == 0,
        }
    }

    fn is_rate(self) -> bool {
        matches!(self, Self::Rate(_))
    }
}

/// What happens between two looks at the schedule.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// How long nobody looks, in milliseconds.
    pause_ms: i64,
    open: Open,
    /// Someone saves it again, without a change.
    edited: bool,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::EveryMinute),
        Just(Kind::EverySevenSeconds),
        Just(Kind::HourlyFromNineToEleven),
        Just(Kind::MondaysAndTheThirdAtHalfPast),
        (1..4_000_i64).prop_map(Kind::Rate),
    ]
}

fn misfire() -> impl Strategy<Value = Misfire> {
    prop_oneof![
        Just(Misfire::FireOnce),
        (0..120_i64).prop_map(|s| Misfire::Skip { grace: TimeDelta::seconds(s) }),
        (0..10_000_i64, 0..20_u32).prop_map(|(s, limit)| Misfire::CatchUp { window: TimeDelta::seconds(s), limit }),
    ]
}

fn overlap() -> impl Strategy<Value = Overlap> {
    use Overlap::{Allow, CancelRunning, QueueAll, QueueOne, Skip};
    prop_oneof![Just(Allow), Just(Skip), Just(QueueOne), Just(QueueAll), Just(CancelRunning)]
}

fn step() -> impl Strategy<Value = Step> {
    // Looks in time, short stalls and outages of up to a day.
    let pause_ms = prop_oneof![0..1_500_i64, 0..120_000_i64, 0..86_400_000_i64];
    let open = (0..4_u32, 0..4_u32).prop_map(|(total, waiting)| Open { total, waiting: waiting.min(total) });
    (pause_ms, open, proptest::bool::weighted(0.1)).prop_map(|(pause_ms, open, edited)| Step { pause_ms, open, edited })
}

prop_compose! {
    fn any_schedule()(
        kind in kind(),
        misfire in misfire(),
        overlap in overlap(),
        max_running in 1..4_u32,
        at_once in any::<bool>(),
        starts_in in proptest::option::of(-5_000..200_000_i64),
        lasts in proptest::option::of(1..400_000_i64),
        deadline in proptest::option::of(0..5_000_i64),
        jitter in 0..90_i64,
    ) -> (Kind, Schedule) {
        let mut schedule = schedule(kind.spec());
        schedule.effective_from = unix(WRITTEN);
        schedule.first_fire = if at_once { FirstFire::AtOnce } else { FirstFire::AfterPeriod };
        (schedule.misfire, schedule.overlap, schedule.max_running) = (misfire, overlap, max_running);
        schedule.starts_at = starts_in.map(|s| unix(WRITTEN + s));
        schedule.ends_at = lasts.map(|s| unix(WRITTEN + starts_in.unwrap_or(0) + s));
        schedule.start_deadline = deadline.map(TimeDelta::seconds);
        schedule.jitter = TimeDelta::seconds(jitter);
        (kind, schedule)
    }
}

/// The slots in (`after`, `until`]; nothing before the schedule was written.
fn oracle(kind: Kind, schedule: &Schedule, after: i64, until: i64) -> Vec<i64> {
    let first = match (schedule.starts_at, kind, schedule.first_fire) {
        (Some(from), ..) => from.timestamp(),
        (None, Kind::Rate(seconds), FirstFire::AfterPeriod) => WRITTEN + seconds,
        _ => WRITTEN,
    };
    // A wall clock's slot at the very second in which it was written has passed, unless it starts there.
    let from = WRITTEN + i64::from(!kind.is_rate() && schedule.starts_at != Some(unix(WRITTEN)));
    let within = |&second: &i64| {
        schedule.starts_at.is_none_or(|at| unix(second) >= at) && schedule.ends_at.is_none_or(|at| unix(second) < at)
    };
    (from.max(after + 1)..=until).filter(|&second| kind.fires_at(second, first)).filter(within).collect()
}

/// The slots that a plan's rows stand for, in their order; checks that each gap counts its slots.
fn accounted(plan: &Plan, slots: &[i64]) -> Result<Vec<i64>, TestCaseError> {
    let mut accounted = Vec::new();
    for fire in &plan.fires {
        let until = fire.until.unwrap_or(fire.fire_at).timestamp();
        let covered = slots.iter().copied().filter(|slot| (fire.fire_at.timestamp()..=until).contains(slot));
        let covered: Vec<i64> = covered.collect();
        prop_assert_eq!(covered.first(), Some(&fire.fire_at.timestamp()), "a row begins with a slot");
        prop_assert_eq!(covered.last(), Some(&until), "a row ends with a slot");
        match fire.run {
            Some(run) => {
                prop_assert_eq!((fire.missed, fire.until), (0, None));
                prop_assert!(run.run_at >= fire.fire_at);
            }
            None => {
                prop_assert_eq!(fire.missed, covered.len() as u64);
                prop_assert_eq!(fire.until.is_some(), covered.len() > 1);
            }
        }
        accounted.extend(covered);
    }
    Ok(accounted)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_slot_is_accounted_for_exactly_once(
        (kind, mut schedule) in any_schedule(),
        steps in proptest::collection::vec(step(), 1..20),
    ) {
        let (mut now, mut looked) = (unix(WRITTEN), WRITTEN - 1);
        for step in steps {
            now += TimeDelta::milliseconds(step.pause_ms);
            let due = oracle(kind, &schedule, looked, now.timestamp());
            looked = now.timestamp();
            let plan = plan(&schedule, now, step.open).unwrap();

            prop_assert_eq!(&accounted(&plan, &due)?, &due, "by {}", now);
            if let Some(&latest) = due.last() {
                check_policy(&schedule, &plan, step.open, due.len(), unix(latest), now)?;
            }

            prop_assert_eq!(plan.wake_at.is_none(), plan.status == Status::Done);
            if let Some(wake) = plan.wake_at {
                let between = oracle(kind, &schedule, looked, wake.timestamp());
                prop_assert_eq!(between, vec![wake.timestamp()], "the next fire time is the next slot");
                prop_assert!(schedule.wake_at.is_none_or(|old| wake > old || wake == old && due.is_empty()));
            }

            apply(&mut schedule, &plan);
            if step.edited && schedule.status == Status::Normal {
                (schedule.status, schedule.effective_from) = (Status::Pending, now);
            }
        }
    }

    #[test]
    fn a_plan_is_the_same_however_often_it_is_made((_, schedule) in any_schedule(), after in 0..500_000_i64) {
        let now = unix(WRITTEN + after);
        let once = plan(&schedule, now, Open::default()).unwrap();
        prop_assert_eq!(&once, &plan(&schedule, now, Open::default()).unwrap());
        let mut planned = schedule;
        apply(&mut planned, &once);
        prop_assert!(plan(&planned, now, Open::default()).unwrap().fires.is_empty(), "and nothing is left to do");
    }
}

/// The policies' bounds, from their definitions.
fn check_policy(
    schedule: &Schedule,
    plan: &Plan,
    open: Open,
    due: usize,
    latest: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), TestCaseError> {
    let acted_on = |fire: &&watchbell::schedule::Fire| {
        !matches!(fire.disposition, Disposition::Coalesced | Disposition::SkippedMisfire)
    };
    let acted_on: u64 = plan.fires.iter().filter(acted_on).map(|fire| fire.missed.max(1)).sum();
    let runs = plan.runs() as u64;
    match schedule.misfire {
        Misfire::FireOnce => prop_assert_eq!(acted_on, 1),
        Misfire::Skip { grace } => prop_assert_eq!(acted_on, u64::from(now - latest <= grace)),
        Misfire::CatchUp { limit, .. } => prop_assert!(acted_on >= 1 && acted_on <= u64::from(limit.max(1))),
    }
    let room = u64::from(schedule.max_running.saturating_sub(open.total));
    match schedule.overlap {
        Overlap::Allow => {}
        Overlap::Skip => prop_assert!(runs <= room),
        Overlap::QueueOne => prop_assert!(runs <= room + 1),
        Overlap::QueueAll => prop_assert!(runs <= room + 100),
        Overlap::CancelRunning => prop_assert!(runs <= u64::from(schedule.max_running)),
    }
    prop_assert!(!plan.cancel_open || schedule.overlap == Overlap::CancelRunning && open.total > 0 && runs > 0);
    prop_assert!(runs <= due as u64);
    Ok(())
}

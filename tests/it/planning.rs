//! What becomes of a schedule's slots, policy by policy.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell::schedule::overlap::OPEN_MAX;
use watchbell::schedule::{
    Disposition, Dst, FirstFire, Misfire, Open, Overlap, Plan, Schedule, Spec, Status, Trigger, plan,
};

use crate::table::{self, rfc3339, unix};

/// A schedule with every column at its default, written at unix second 0.
pub(crate) fn schedule(spec: Spec) -> Schedule {
    Schedule::new(1, spec, unix(0))
}

pub(crate) fn cron(text: &str) -> Schedule {
    schedule(Spec::cron(text, "UTC", Dst::Once).unwrap())
}

fn rate(seconds: i64) -> Schedule {
    schedule(Spec::FixedRate(TimeDelta::seconds(seconds)))
}

fn delay(seconds: i64) -> Schedule {
    schedule(Spec::FixedDelay(TimeDelta::seconds(seconds)))
}

fn once(at: i64) -> Schedule {
    schedule(Spec::Once(unix(at)))
}

/// Writes a plan into its schedule, as the fire stage does.
pub(crate) fn apply(schedule: &mut Schedule, plan: &Plan) {
    schedule.status = plan.status;
    schedule.wake_at = plan.wake_at;
    schedule.anchor_at = plan.anchor_at;
    schedule.fires_count += plan.runs();
    schedule.last_fire_at = plan.last_fire_at().or(schedule.last_fire_at);
}

/// Plans at a unix second with no run open, and writes the plan.
fn tick(schedule: &mut Schedule, now: i64) -> Plan {
    let plan = plan(schedule, unix(now), Open::default()).unwrap();
    apply(schedule, &plan);
    plan
}

/// Slot, disposition and how many slots were left out, in unix seconds.
fn rows(plan: &Plan) -> Vec<(i64, Disposition, u64)> {
    plan.fires.iter().map(|fire| (fire.fire_at.timestamp(), fire.disposition, fire.missed)).collect()
}

fn runs(plan: &Plan) -> Vec<i64> {
    plan.fires.iter().filter(|fire| fire.run.is_some()).map(|fire| fire.fire_at.timestamp()).collect()
}

fn wake(plan: &Plan) -> Option<i64> {
    plan.wake_at.map(|at| at.timestamp())
}

fn open(total: u32, waiting: u32) -> Open {
    Open { total, waiting }
}

#[test]
fn rates_and_delays_equal_the_brute_force_vectors() {
    for row in table::read(include_str!("../data/cron/rate_vectors.csv")) {
        let line = row.line;
        let seconds = |column| row.number(column).map(TimeDelta::seconds);
        let at = |column| row.number(column).map(unix);
        let (period, now) = (seconds("period_s").unwrap(), at("now").unwrap());
        let fires: Vec<i64> = row.get("fires_now").split_whitespace().map(|s| s.parse().unwrap()).collect();
        let next = row.number("next_after");

        if row.get("kind") == "interval" {
            let finished = at("last_finished");
            let mut schedule = schedule(Spec::FixedDelay(period));
            schedule.status = Status::Normal;
            schedule.last_fire_at = at("last_scheduled");
            schedule.last_finished_at = finished;
            schedule.wake_at = finished.map(|at| at + period);
            let plan = plan(&schedule, now, open(u32::from(finished.is_none()), 0)).unwrap();
            assert_eq!((runs(&plan), wake(&plan)), (fires, next), "line {line}");
            continue;
        }

        let mut fresh = schedule(Spec::FixedRate(period));
        fresh.anchor_at = at("anchor");
        fresh.last_fire_at = at("last_scheduled");
        fresh.misfire = match row.get("misfire") {
            "fire_once" => Misfire::FireOnce,
            "skip" => Misfire::Skip { grace: seconds("grace_s").unwrap() },
            "fire_all" => Misfire::CatchUp {
                window: seconds("catchup_window_s").unwrap_or(TimeDelta::days(1)),
                limit: row.number("catchup_limit").unwrap() as u32,
            },
            misfire => panic!("line {line}: {misfire}"),
        };
        // Planned afresh, or going on from the next slot planned last: it makes no difference.
        let mut going_on = fresh.clone();
        going_on.status = Status::Normal;
        going_on.wake_at = fresh.last_fire_at.map(|at| at + period).or(fresh.anchor_at);
        for schedule in [fresh, going_on] {
            let plan = plan(&schedule, now, Open::default()).unwrap();
            assert_eq!((runs(&plan), wake(&plan)), (fires.clone(), next), "line {line}");
            let missed: u64 = plan.fires.iter().map(|fire| fire.missed).sum();
            assert_eq!(Some(format!("{missed} missed").as_str()), Some(row.get("note")), "line {line}");
        }
    }
}

#[test]
fn a_new_schedule_waits_for_its_first_slot() {
    for (mut schedule, first) in [(cron("*/5 * * * *"), 300), (rate(30), 30), (delay(30), 30), (once(30), 30)] {
        let plan = tick(&mut schedule, 0);
        assert_eq!((rows(&plan), wake(&plan)), (vec![], Some(first)), "{}", schedule.spec);
        assert_eq!(schedule.status, Status::Normal);
    }
}

#[test]
fn first_fire_at_once_fires_when_written() {
    for (mut schedule, next) in [(rate(30), Some(30)), (delay(30), None)] {
        schedule.first_fire = FirstFire::AtOnce;
        let plan = tick(&mut schedule, 0);
        assert_eq!((rows(&plan), wake(&plan)), (vec![(0, Disposition::Run, 0)], next), "{}", schedule.spec);
    }
}

#[test]
fn starts_at_is_the_first_slot_of_rates_and_delays_and_the_grid_of_rates() {
    for mut schedule in [rate(30), delay(30)] {
        schedule.starts_at = Some(unix(100));
        assert_eq!(wake(&tick(&mut schedule, 0)), Some(100));
        assert_eq!(schedule.anchor_at, Some(unix(100)));
    }
    let mut past = rate(30);
    past.starts_at = Some(unix(-100));
    let plan = tick(&mut past, 0);
    assert_eq!((rows(&plan), wake(&plan)), (vec![], Some(20)), "slots before it was written are not missed");
}

#[test]
fn a_rate_keeps_its_grid_whatever_happens() {
    let mut schedule = rate(30);
    tick(&mut schedule, 0);
    assert_eq!(rows(&tick(&mut schedule, 31)), [(30, Disposition::Run, 0)]);
    assert_eq!(rows(&tick(&mut schedule, 119)), [(60, Disposition::Coalesced, 1), (90, Disposition::Run, 0)]);
    assert_eq!(schedule.wake_at, Some(unix(120)));
}

#[test]
fn an_edit_of_the_period_counts_from_the_last_start() {
    let mut schedule = rate(600);
    tick(&mut schedule, 0);
    tick(&mut schedule, 600);
    schedule.spec = Spec::FixedRate(TimeDelta::seconds(300));
    (schedule.status, schedule.anchor_at, schedule.effective_from) = (Status::Pending, None, unix(700));
    let plan = tick(&mut schedule, 700);
    assert_eq!((rows(&plan), wake(&plan)), (vec![], Some(900)));
}

#[test]
fn an_edit_never_fires_a_past_slot_again() {
    let mut schedule = cron("0 * * * *");
    tick(&mut schedule, 0);
    assert_eq!(runs(&tick(&mut schedule, 3_600)), [3_600]);
    schedule.spec = Spec::cron("*/30 * * * *", "UTC", Dst::Once).unwrap();
    (schedule.status, schedule.effective_from) = (Status::Pending, unix(3_601));
    let plan = tick(&mut schedule, 3_602);
    assert_eq!((rows(&plan), wake(&plan)), (vec![], Some(5_400)));

    // An edit stamped with the very instant of the slot that has fired.
    (schedule.status, schedule.effective_from) = (Status::Pending, unix(3_600));
    assert_eq!(rows(&tick(&mut schedule, 3_602)), []);
}

#[test]
fn a_slot_that_is_accounted_for_is_not_fired_again_whatever_wake_at_says() {
    for mut schedule in [cron("* * * * *"), rate(60)] {
        tick(&mut schedule, 0);
        tick(&mut schedule, 60);
        schedule.wake_at = Some(unix(60));
        let plan = tick(&mut schedule, 61);
        assert_eq!((rows(&plan), wake(&plan)), (vec![], Some(120)), "{}", schedule.spec);
    }
}

#[test]
fn upcoming_slots_keep_to_the_schedule_s_bounds_and_need_no_plan() {
    let upcoming = |schedule: &Schedule, after, n| -> Vec<i64> {
        schedule.upcoming(unix(after), n).iter().map(DateTime::timestamp).collect()
    };
    let mut schedule = cron("* * * * *");
    (schedule.starts_at, schedule.ends_at) = (Some(unix(120)), Some(unix(300)));
    assert_eq!(upcoming(&schedule, 0, 10), [120, 180, 240]);
    assert_eq!(upcoming(&schedule, 120, 1), [180]);
    assert_eq!(upcoming(&rate(30), 0, 2), [30, 60]);
    assert_eq!(upcoming(&delay(30), 0, 2), [30], "what follows depends on when its run ends");
    assert_eq!(upcoming(&once(30), 0, 2), [30]);
    assert_eq!(upcoming(&once(30), 30, 2), [] as [i64; 0]);
}

#[test]
fn slots_that_passed_before_a_worker_took_a_schedule_up_are_misfires() {
    let mut schedule = cron("0 * * * *");
    let plan = tick(&mut schedule, 4 * 3_600 + 60);
    assert_eq!(rows(&plan), [(3_600, Disposition::Coalesced, 3), (14_400, Disposition::Run, 0)]);
    assert_eq!(plan.fires[0].until, Some(unix(10_800)));
    assert_eq!(plan.last_fire_at(), Some(unix(14_400)));
}

#[test]
fn skip_drops_what_is_later_than_its_grace() {
    let mut schedule = cron("0 * * * *");
    schedule.misfire = Misfire::Skip { grace: TimeDelta::seconds(60) };
    tick(&mut schedule, 0);
    assert_eq!(rows(&tick(&mut schedule, 3_660)), [(3_600, Disposition::Run, 0)]);
    let plan = tick(&mut schedule, 10_861);
    assert_eq!(rows(&plan), [(7_200, Disposition::SkippedMisfire, 2)]);
    assert_eq!((plan.fires[0].until, plan.last_fire_at()), (Some(unix(10_800)), Some(unix(10_800))));
    assert_eq!(wake(&plan), Some(14_400));
}

#[test]
fn catch_up_runs_the_newest_within_its_window_and_limit_oldest_first() {
    let mut schedule = cron("* * * * *");
    schedule.misfire = Misfire::CatchUp { window: TimeDelta::minutes(10), limit: 3 };
    let plan = tick(&mut schedule, 1_200);
    let expected = [
        (60, Disposition::SkippedMisfire, 17),
        (1_080, Disposition::CaughtUp, 0),
        (1_140, Disposition::CaughtUp, 0),
        (1_200, Disposition::Run, 0),
    ];
    assert_eq!(rows(&plan), expected);
    let triggers: Vec<_> = plan.fires.iter().filter_map(|fire| fire.run.map(|run| run.trigger)).collect();
    assert_eq!(triggers, [Trigger::CatchUp, Trigger::CatchUp, Trigger::Schedule]);

    let mut windowed = cron("* * * * *");
    windowed.misfire = Misfire::CatchUp { window: TimeDelta::minutes(2), limit: 100 };
    assert_eq!(runs(&tick(&mut windowed, 1_200)), [1_080, 1_140, 1_200], "a slot just as old as the window is in it");
}

#[test]
fn a_year_of_seconds_is_planned_without_walking_it() {
    let year = 365 * 86_400;
    for (misfire, runs) in [
        (Misfire::FireOnce, 1),
        (Misfire::Skip { grace: TimeDelta::seconds(60) }, 1),
        (Misfire::CatchUp { window: TimeDelta::days(1_000), limit: 100 }, 100),
    ] {
        for mut schedule in [cron("* * * * * *"), rate(1)] {
            schedule.misfire = misfire;
            let plan = tick(&mut schedule, year);
            assert_eq!(plan.runs(), runs);
            assert_eq!(plan.fires[0].missed, (year - runs) as u64, "{}", schedule.spec);
        }
    }
}

#[test]
fn allow_starts_beside_open_runs_up_to_its_ceiling() {
    let mut schedule = cron("* * * * *");
    tick(&mut schedule, 0);
    let decide = |total| rows(&plan(&schedule, unix(60), open(total, 0)).unwrap())[0].1;
    assert_eq!(decide(OPEN_MAX - 1), Disposition::Run);
    assert_eq!(decide(OPEN_MAX), Disposition::SkippedOverlap);
}

#[test]
fn each_overlap_policy_decides_as_documented() {
    use Disposition::{Queued, Run, SkippedOverlap};
    for (overlap, max_running, open, expected, cancels) in [
        (Overlap::Skip, 1, open(0, 0), Run, false),
        (Overlap::Skip, 1, open(1, 0), SkippedOverlap, false),
        (Overlap::Skip, 1, open(1, 1), SkippedOverlap, false),
        (Overlap::Skip, 2, open(1, 0), Run, false),
        (Overlap::QueueOne, 1, open(0, 0), Run, false),
        (Overlap::QueueOne, 1, open(1, 0), Queued, false),
        (Overlap::QueueOne, 1, open(2, 1), SkippedOverlap, false),
        (Overlap::QueueAll, 1, open(1, 0), Queued, false),
        (Overlap::QueueAll, 1, open(OPEN_MAX, OPEN_MAX - 1), Queued, false),
        (Overlap::QueueAll, 1, open(OPEN_MAX + 1, OPEN_MAX), SkippedOverlap, false),
        (Overlap::CancelRunning, 1, open(0, 0), Run, false),
        (Overlap::CancelRunning, 1, open(1, 0), Queued, true),
        (Overlap::CancelRunning, 2, open(1, 0), Run, false),
    ] {
        let mut schedule = cron("* * * * *");
        tick(&mut schedule, 0);
        (schedule.overlap, schedule.max_running) = (overlap, max_running);
        let plan = plan(&schedule, unix(60), open).unwrap();
        let case = format!("{overlap} of {max_running} with {open:?}");
        assert_eq!((plan.fires[0].disposition, plan.cancel_open), (expected, cancels), "{case}");
        assert_eq!(plan.fires[0].run.is_some(), expected != SkippedOverlap, "{case}");
        assert_eq!(
            plan.fires[0].run.is_some_and(|run| run.serialized),
            plan.runs() == 1 && overlap != Overlap::Skip,
            "{case}"
        );
        assert_eq!(wake(&plan), Some(120), "{case}");
    }
}

#[test]
fn slots_caught_up_at_once_overlap_one_another() {
    let decide = |overlap, total| {
        let mut schedule = cron("* * * * *");
        schedule.overlap = overlap;
        schedule.misfire = Misfire::CatchUp { window: TimeDelta::days(1), limit: 4 };
        let plan = plan(&schedule, unix(240), open(total, 0)).unwrap();
        (rows(&plan), plan.cancel_open)
    };
    use Disposition::{CaughtUp, Queued, Run, SkippedOverlap};
    assert_eq!(decide(Overlap::Skip, 0), (vec![(60, CaughtUp, 0), (120, SkippedOverlap, 3)], false));
    assert_eq!(
        decide(Overlap::QueueOne, 0),
        (vec![(60, CaughtUp, 0), (120, Queued, 0), (180, SkippedOverlap, 2)], false)
    );
    assert_eq!(
        decide(Overlap::QueueAll, 1),
        (vec![(60, Queued, 0), (120, Queued, 0), (180, Queued, 0), (240, Queued, 0)], false)
    );
    assert_eq!(decide(Overlap::CancelRunning, 0), (vec![(60, SkippedOverlap, 3), (240, Run, 0)], false));
    assert_eq!(decide(Overlap::CancelRunning, 1), (vec![(60, SkippedOverlap, 3), (240, Queued, 0)], true));
}

#[test]
fn nothing_fires_before_starts_at_nor_from_ends_at_on() {
    let mut schedule = cron("* * * * *");
    (schedule.starts_at, schedule.ends_at) = (Some(unix(120)), Some(unix(240)));
    schedule.misfire = Misfire::CatchUp { window: TimeDelta::days(1), limit: 100 };
    let mut late = schedule.clone();
    assert_eq!(wake(&tick(&mut schedule, 0)), Some(120));
    let plan = tick(&mut late, 1_000);
    assert_eq!((runs(&plan), wake(&plan), plan.status), (vec![120, 180], None, Status::Done));
    assert!(tick(&mut late, 2_000).fires.is_empty(), "done is done");

    tick(&mut schedule, 120);
    let plan = tick(&mut schedule, 180);
    assert_eq!((runs(&plan), wake(&plan), plan.status), (vec![180], None, Status::Done));
}

#[test]
fn max_fires_counts_runs_and_then_it_is_done() {
    for mut schedule in [cron("* * * * *"), rate(60)] {
        schedule.max_fires = Some(2);
        tick(&mut schedule, 0);
        assert_eq!(tick(&mut schedule, 60).status, Status::Normal);
        let plan = tick(&mut schedule, 120);
        assert_eq!((runs(&plan), wake(&plan), plan.status), (vec![120], None, Status::Done));
    }
    let mut catching_up = cron("* * * * *");
    catching_up.max_fires = Some(2);
    catching_up.misfire = Misfire::CatchUp { window: TimeDelta::days(1), limit: 100 };
    let plan = tick(&mut catching_up, 600);
    assert_eq!((runs(&plan), plan.status), (vec![60, 120], Status::Done));
}

#[test]
fn a_slot_past_its_start_deadline_expires() {
    let deadline = Some(TimeDelta::seconds(30));
    for (mut schedule, status) in [(cron("* * * * *"), Status::Normal), (once(60), Status::Done)] {
        schedule.start_deadline = deadline;
        tick(&mut schedule, 0);
        let mut late = schedule.clone();
        let plan = tick(&mut schedule, 90);
        assert_eq!(plan.fires[0].run.unwrap().start_deadline, Some(unix(90)));
        let plan = tick(&mut late, 91);
        assert_eq!((rows(&plan), plan.status), (vec![(60, Disposition::Expired, 1)], status));
    }
    let mut delayed = delay(60);
    delayed.start_deadline = deadline;
    tick(&mut delayed, 0);
    let plan = tick(&mut delayed, 100);
    assert_eq!(rows(&plan), [(60, Disposition::Expired, 1)]);
    assert_eq!(wake(&plan), Some(160), "no run ends, so the next is counted from here");
}

#[test]
fn jitter_moves_the_run_and_its_deadline_but_not_the_slot() {
    let mut schedule = cron("* * * * *");
    (schedule.jitter, schedule.start_deadline) = (TimeDelta::seconds(50), Some(TimeDelta::seconds(5)));
    tick(&mut schedule, 0);
    let fire = tick(&mut schedule, 60).fires.remove(0);
    let run = fire.run.unwrap();
    assert_eq!(fire.fire_at, unix(60));
    assert!(run.run_at > unix(60) && run.run_at < unix(110), "{}", run.run_at);
    assert_eq!(run.start_deadline, Some(run.run_at + TimeDelta::seconds(5)));
    assert_eq!(schedule.wake_at, Some(unix(120)));
}

#[test]
fn a_fixed_delay_waits_for_the_end_of_its_run() {
    let mut schedule = delay(30);
    tick(&mut schedule, 0);
    let plan = tick(&mut schedule, 45);
    assert_eq!((rows(&plan), wake(&plan)), (vec![(30, Disposition::Run, 0)], None));
    assert_eq!(plan.status, Status::Normal);
    // The end of the run sets the next.
    (schedule.last_finished_at, schedule.wake_at) = (Some(unix(50)), Some(unix(80)));
    assert_eq!(rows(&tick(&mut schedule, 200)), [(80, Disposition::Run, 0)], "however late");
}

#[test]
fn an_edited_fixed_delay_waits_for_an_open_run_or_counts_from_the_last_end() {
    let mut schedule = delay(30);
    (schedule.last_fire_at, schedule.last_finished_at) = (Some(unix(30)), Some(unix(50)));
    schedule.effective_from = unix(60);
    let pending = schedule.clone();
    assert_eq!(wake(&plan(&pending, unix(60), open(1, 0)).unwrap()), None);
    assert_eq!(wake(&plan(&pending, unix(60), open(0, 0)).unwrap()), Some(80));
    let overdue = plan(&pending, unix(90), open(0, 0)).unwrap();
    assert_eq!(rows(&overdue), [(90, Disposition::Run, 0)]);
}

#[test]
fn once_fires_however_late_and_only_once() {
    let mut schedule = once(-3_600);
    let plan = tick(&mut schedule, 0);
    assert_eq!((rows(&plan), plan.status), (vec![(-3_600, Disposition::Run, 0)], Status::Done));
    schedule.status = Status::Pending;
    assert_eq!(rows(&tick(&mut schedule, 10)), [], "an edit of the payload does not fire it again");
    (schedule.spec, schedule.status) = (Spec::Once(unix(100)), Status::Pending);
    assert_eq!(wake(&tick(&mut schedule, 10)), Some(100), "a new time does");
}

#[test]
fn a_clock_that_steps_back_fires_nothing_again() {
    for mut schedule in [cron("* * * * *"), rate(60)] {
        tick(&mut schedule, 0);
        tick(&mut schedule, 600);
        for status in [Status::Normal, Status::Pending] {
            schedule.status = status;
            let plan = tick(&mut schedule, 300);
            assert_eq!((rows(&plan), wake(&plan)), (vec![], Some(660)), "{}", schedule.spec);
        }
    }
}

#[test]
fn what_can_never_fire_is_unplannable_in_one_sentence() {
    let mut backwards = cron("* * * * *");
    (backwards.starts_at, backwards.ends_at) = (Some(unix(60)), Some(unix(60)));
    let mut outside = once(60);
    outside.ends_at = Some(unix(60));
    for (schedule, sentence) in [
        (cron("0 0 30 2 *"), "cron expression \"0 0 30 2 *\" never fires: no date matches it"),
        (cron("0 0 0 1 1 * 1970"), "cron expression \"0 0 0 1 1 * 1970\" has no fire time after 1970-01-01T00:00:00Z"),
        (schedule(Spec::FixedRate(TimeDelta::milliseconds(999))), "fixed_rate 999ms is below the minimum of 1s"),
        (delay(0), "fixed_delay 0s is below the minimum of 1s"),
        (backwards, "ends_at 1970-01-01T00:01:00Z is not after starts_at 1970-01-01T00:01:00Z"),
        (outside, "run_at 1970-01-01T00:01:00Z is outside starts_at to ends_at, so it never fires"),
    ] {
        assert_eq!(plan(&schedule, unix(0), Open::default()).unwrap_err().to_string(), sentence);
    }
}

#[test]
fn a_cron_whose_years_are_over_is_done() {
    let mut schedule = cron("0 0 0 1 1 * 1971");
    tick(&mut schedule, 0);
    let at = rfc3339("1971-01-01T00:00:00Z").timestamp();
    assert_eq!(tick(&mut schedule, at).status, Status::Done);
    (schedule.status, schedule.effective_from) = (Status::Pending, unix(at + 5));
    assert_eq!(tick(&mut schedule, at + 5).status, Status::Done, "an edit finds it so again");
}

#[test]
fn extreme_times_do_not_panic() {
    let extremes = [DateTime::<Utc>::MIN_UTC, unix(0), DateTime::<Utc>::MAX_UTC];
    for now in extremes {
        for at in extremes {
            for base in [cron("* * * * * *"), rate(1), delay(1), schedule(Spec::Once(at))] {
                for (status, misfire) in [
                    (Status::Pending, Misfire::FireOnce),
                    (Status::Normal, Misfire::CatchUp { window: TimeDelta::MAX, limit: 5 }),
                    (Status::Normal, Misfire::Skip { grace: TimeDelta::MAX }),
                ] {
                    let mut schedule = base.clone();
                    (schedule.status, schedule.misfire) = (status, misfire);
                    (schedule.effective_from, schedule.wake_at, schedule.starts_at) = (at, Some(at), Some(at));
                    (schedule.start_deadline, schedule.jitter) = (Some(TimeDelta::MAX), TimeDelta::MAX);
                    let _ = plan(&schedule, now, Open::default());
                }
            }
        }
    }
}

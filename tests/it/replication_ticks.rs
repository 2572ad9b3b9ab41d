//! Schedules of each second under three worker processes that live, work and are killed.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::support::Database;
use crate::support::ask::one;
use crate::support::fleet::{
    SOON, accounted, assert_started_once, by_schedule, psql, second, seconds_after, three, until_all_over,
};
use crate::support::journal::{Entry, Journal};
use crate::support::wait::until_true;

#[tokio::test]
async fn a_thousand_live_fire_times_act_once_each_though_a_worker_is_killed() {
    const SCHEDULES: i64 = 125;
    const SLOTS: i64 = 8;
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let mut fleet = three(&database, &journal).await;
    let zero = second(pool).await + TimeDelta::seconds(1);
    let (from, to) = (zero + TimeDelta::seconds(1), zero + TimeDelta::seconds(SLOTS + 1));
    for (kind, spec, rest) in [("cron", "'* * * * * *'", 0), ("fixed_rate", "'1 s'", 1)] {
        psql(
            pool,
            &format!(
                "insert into watchbell.schedules (name, handler, payload, misfire, starts_at, ends_at, {kind}) \
                 select 's' || i, 'work', '{{\"ms\": 20}}', 'catch_up', '{from}', '{to}', {spec} \
                 from generate_series(1, {SCHEDULES}) i where i % 2 = {rest}"
            ),
        )
        .await;
    }
    let half = format!("select count(*) >= {} from watchbell.fires", SCHEDULES * SLOTS / 2);
    until_true(pool, &half, SOON).await;
    let victim = fleet[1].pid();
    fleet[1].kill();
    until_all_over(pool).await;

    let mut expected = BTreeSet::new();
    for n in 1..=SCHEDULES {
        expected.extend(seconds_after(zero, SLOTS).into_iter().map(|slot| (format!("s{n}"), slot)));
    }
    let seen = accounted(pool).await;
    assert_eq!(seen.len(), expected.len(), "a row of fires each");
    assert!(seen.iter().all(|(_, _, what)| what == "run" || what == "caught_up"), "{seen:?}");
    let runs: i64 =
        one(pool, "select count(distinct (schedule_id, fire_at)) from watchbell.runs_finished where status = 'normal'")
            .await;
    assert_eq!(runs, SCHEDULES * SLOTS);
    assert_started_once(&journal, &expected);
    // what the victim had in hand was started again, by another; nothing else was
    let entries = journal.entries();
    for again in entries.iter().filter(|e| e.event == "start" && e.attempt > 1) {
        let first = entries.iter().find(|e| e.run == again.run && e.attempt == 1);
        assert!(first.is_none_or(|first| first.pid == victim) && again.pid != victim, "{first:?} {again:?}");
    }
    let again: i64 = one(pool, "select count(*) from watchbell.runs_finished where attempt > 1 + crashes").await;
    assert_eq!(again, 0, "an attempt that nobody's death explains");
    let pids: BTreeSet<_> = entries.iter().map(|e| e.pid).collect();
    assert_eq!(pids.len(), 3, "all three had their share");
}

/// How many runs of one schedule were at work at once, at most, and how often a run began beside another.
fn abreast(noted: &[(DateTime<Utc>, Entry)]) -> usize {
    let mut at_work: BTreeMap<i64, ()> = BTreeMap::new();
    let mut most = 0;
    for (_, entry) in noted {
        match entry.event.as_str() {
            "start" => drop(at_work.insert(entry.run, ())),
            _ => drop(at_work.remove(&entry.run)),
        }
        most = most.max(at_work.len());
    }
    most
}

#[tokio::test]
async fn a_fire_time_during_a_run_obeys_its_overlap_policy_whichever_worker_has_the_run() {
    const SLOTS: i64 = 6;
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let _fleet = three(&database, &journal).await;
    let zero = second(pool).await + TimeDelta::seconds(1);
    let (from, to) = (zero + TimeDelta::seconds(1), zero + TimeDelta::seconds(SLOTS + 1));
    for overlap in ["allow", "skip", "queue_one", "queue_all", "cancel_running"] {
        psql(
            pool,
            &format!(
                "insert into watchbell.schedules (name, handler, payload, misfire, starts_at, ends_at, cron, overlap) \
                 select '{overlap}.' || i, 'work', '{{\"ms\": 1400}}', 'catch_up', '{from}', '{to}', '* * * * * *', \
                        '{overlap}' from generate_series(1, 5) i"
            ),
        )
        .await;
    }
    until_all_over(pool).await;
    let slots = seconds_after(zero, SLOTS);
    let fires = accounted(pool).await;
    let mut stopped = 0;
    for (name, noted) in by_schedule(&journal) {
        let fires: Vec<_> = fires.iter().filter(|(of, _, _)| *of == name).map(|(_, at, what)| (*at, what)).collect();
        assert_eq!(fires.iter().map(|(at, _)| *at).collect::<Vec<_>>(), slots, "{name}: each slot has one row");
        let skipped = |at| fires.iter().any(|(slot, what)| *slot == at && *what == "skipped_overlap");
        let started: Vec<_> = noted.iter().filter(|(_, e)| e.event == "start").map(|(slot, _)| *slot).collect();
        assert!(started.iter().all(|at| !skipped(*at)), "{name}: one that was skipped started");
        let distinct: BTreeSet<_> = started.iter().collect();
        assert_eq!(distinct.len(), started.len(), "{name}: a slot started twice");
        let (overlap, most) = (name.split('.').next().unwrap(), abreast(&noted));
        match overlap {
            "allow" => assert!(started.len() == slots.len() && most > 1, "{name}: {most} at once, {started:?}"),
            _ => assert_eq!(most, 1, "{name}: runs beside one another"),
        }
        match overlap {
            "skip" | "queue_one" => assert!(started.len() < slots.len(), "{name}: nothing was skipped"),
            "queue_all" => assert_eq!(started, slots, "{name}: each in its turn"),
            "cancel_running" => {
                stopped += noted.iter().filter(|(_, e)| e.event == "stop").count();
                let last = noted.last().map(|(slot, e)| (*slot, e.event.as_str()));
                assert_eq!(last, Some((slots[slots.len() - 1], "end")), "{name}: the newest works to its end");
            }
            _ => {}
        }
    }
    assert!(stopped > 0, "no run was asked to stop");
}

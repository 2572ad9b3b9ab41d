//! Workers whose hosts disagree about the time, and replicas that declare the same schedule at other moments.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::support::ask::{insert, one, until_status};
use crate::support::fleet::{
    SOON, accounted, assert_started_once, psql, second, seconds_after, until_all_over, until_three,
};
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::{until, until_true};
use crate::support::{Database, skip};

/// The library that tells a process another time, as Debian's package `faketime` has it.
fn faketime() -> Option<PathBuf> {
    let lib = std::fs::read_dir("/usr/lib").ok()?.flatten();
    lib.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

#[tokio::test]
async fn clocks_of_workers_that_are_hours_apart_change_nothing() {
    const SLOTS: i64 = 5;
    let Some(library) = faketime() else { return skip("libfaketime is not installed (Debian: faketime)") };
    let library = library.to_str().unwrap();
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let mut fleet = [("slow", Some("-1h")), ("true", None), ("fast", Some("+1h"))].map(|(name, offset)| {
        // so few slots that each worker is needed
        let orders = Orders { slots: 4, ..Orders::new(&database.url, &journal, name) };
        let Some(offset) = offset else { return Process::start(&orders) };
        // a wrong wall clock, with a monotonic one that is right
        let variables = [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        Process::start_with(&orders, &variables.map(|(name, value)| (name, value.as_ref())))
    });
    until_three(pool).await;

    let zero = second(pool).await + TimeDelta::seconds(1);
    let (from, to) = (zero + TimeDelta::seconds(1), zero + TimeDelta::seconds(SLOTS + 1));
    let mut expected = std::collections::BTreeSet::new();
    for (kind, spec) in [("cron", "'* * * * * *'"), ("fixed_rate", "'1 s'")] {
        psql(
            pool,
            &format!(
                "insert into watchbell.schedules (name, handler, payload, misfire, starts_at, ends_at, start_deadline, \
                 {kind}) select '{kind}.' || i, 'work', '{{\"ms\": 400}}', 'catch_up', '{from}', '{to}', '20 min', {spec} \
                 from generate_series(1, 10) i"
            ),
        )
        .await;
        for n in 1..=10 {
            expected.extend(seconds_after(zero, SLOTS).into_iter().map(|slot| (format!("{kind}.{n}"), slot)));
        }
    }
    // a retry, a time limit and a lease are reckoned by nobody's own clock either
    let retried = insert(
        pool,
        "fail",
        &[
            ("payload", r#"'{"ms": 0, "times": 2}'"#),
            ("retry", r#"'{"strategy": "fixed", "base": "1s", "jitter": false}'"#),
            ("timeout", "'30 s'"),
        ],
    )
    .await;
    until_all_over(pool).await;
    assert_eq!(accounted(pool).await.len(), expected.len());
    assert_started_once(&journal, &expected);
    assert_eq!(until_status(pool, retried, "normal", SOON).await.attempt, 3);
    let dead: i64 = one(pool, "select count(*) from watchbell.workers where state <> 'running'").await;
    assert_eq!(dead, 0, "nobody was taken for dead");
    let wrong = "select count(*) from watchbell.runs_finished
                 where started_at < fire_at or finished_at < started_at or started_at > fire_at + interval '20 min'";
    assert_eq!(one::<i64>(pool, wrong).await, 0, "times are the database's");

    // each had its share, by a clock of its own: the journal has what these said
    let wall = |pid: u32| journal.entries().into_iter().find(|e| e.pid == pid).map(|e| e.wall - zero);
    let offsets = fleet.each_ref().map(|process| wall(process.pid()).expect("it had some runs").num_minutes());
    assert!(offsets[0] < -50 && offsets[1].abs() < 10 && offsets[2] > 50, "{offsets:?} minutes apart");

    // the fast one's death is seen by those whose clocks say otherwise
    let long = insert(pool, "work", &[("payload", "'{\"ms\": 60000}'")]).await;
    // it is `running` from its claim on, a moment before its handler starts
    until("it starts", SOON, async || (journal.starts(long) == [1]).then_some(())).await;
    let by = "select w.pid from watchbell.workers w join watchbell.runs_live r on r.claimed_by = w.id";
    let pid: i32 = one(pool, by).await;
    let victim = fleet.iter_mut().find(|process| i64::from(process.pid()) == i64::from(pid)).unwrap();
    victim.kill();
    until("it starts again elsewhere", SOON, async || (journal.starts(long) == [1, 2]).then_some(())).await;
}

#[tokio::test]
async fn a_relative_start_declared_by_three_processes_at_three_moments_fires_once() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let orders = ["a", "b", "c"].map(|name| Orders {
        declares: vec![("first".to_owned(), 1), ("shared".to_owned(), 4)],
        ..Orders::new(&database.url, &journal, name)
    });
    let mut fleet = vec![];
    let mut moments: Vec<DateTime<Utc>> = vec![];
    for (n, orders) in orders.iter().enumerate() {
        fleet.push(Process::start(orders));
        let there = format!("select count(*) = {} from watchbell.workers where state = 'running'", n + 1);
        until_true(pool, &there, SOON).await;
        moments.push(one(pool, "select clock_timestamp()").await);
        if n == 0 {
            // declared again when it is over, and while it is to come
            until_true(pool, "select status = 'done' from watchbell.schedules where name = 'first'", SOON).await;
        }
    }
    until_true(pool, "select count(*) = 2 from watchbell.runs_finished where status = 'normal'", SOON).await;
    // nothing more comes: all three have beaten since, and none of them finds anything due
    let beaten = "select min(heartbeat_at) > (select max(finished_at) + interval '1 s' from watchbell.runs_finished) \
                  from watchbell.workers where state = 'running'";
    until_true(pool, beaten, SOON).await;
    let schedules: i64 = one(pool, "select count(*) from watchbell.schedules where status = 'done'").await;
    assert_eq!(schedules, 2, "one of each name");
    let mut seen: Vec<_> = journal.entries().into_iter().map(|e| e.fire.unwrap()).collect();
    seen.sort();
    assert_eq!(seen.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["first", "shared"]);
    let planned: Vec<(String, DateTime<Utc>)> =
        sqlx::query_as("select name, run_at from watchbell.schedules order by name").fetch_all(pool).await.unwrap();
    assert_eq!(seen, planned);
    let counted: Duration = (seen[1].1 - seen[0].1).to_std().unwrap();
    assert_eq!(counted, Duration::from_secs(3), "both from the first declaration: {moments:?}");
}

//! Schedules that are kept alive, or run on every worker, under real worker processes.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::Database;
use crate::support::ask::one;
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::until_true;

const SOON: Duration = Duration::from_secs(40);

#[tokio::test]
async fn what_is_kept_alive_survives_a_drain_as_the_same_run_and_a_kill_as_the_next() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let mut first = Process::start(&Orders::new(&database.url, &journal, "first"));
    let insert = "insert into watchbell.schedules (name, fixed_delay, keep_alive, handler, payload) \
                  values ('daemon', '1 s', true, 'work', '{\"ms\": 600000, \"again_ms\": 600000}')";
    sqlx::query(insert).execute(pool).await.unwrap();
    until_true(pool, "exists (select from watchbell.running)", SOON).await;
    let run: i64 = one(pool, "select id from watchbell.running").await;

    let mut second = Process::start(&Orders::new(&database.url, &journal, "second"));
    until_true(pool, "select count(*) = 2 from watchbell.workers where state = 'running' and presence", SOON).await;
    first.send(Signal::SIGTERM);
    let moved = "exists (select from watchbell.running where worker = 'second')";
    let took = until_true(pool, moved, SOON).await;
    assert!(took < Duration::from_secs(15), "the drain did not wait for it: {took:?}");
    let (same, attempt): (i64, i32) =
        sqlx::query_as("select id, attempt from watchbell.running").fetch_one(pool).await.unwrap();
    assert_eq!((same, attempt), (run, 1));
    until_true(pool, "exists (select from watchbell.workers where state = 'stopped')", SOON).await;
    assert!(first.ended().is_none_or(|status| status.success()));

    let third = Process::start(&Orders::new(&database.url, &journal, "third"));
    until_true(pool, "select count(*) = 2 from watchbell.workers where state = 'running' and presence", SOON).await;
    second.kill();
    until_true(pool, "exists (select from watchbell.running where worker = 'third')", SOON).await;
    let ends: Vec<(i64, String)> = sqlx::query_as("select id, status from watchbell.runs where status <> 'running'")
        .fetch_all(pool)
        .await
        .unwrap();
    assert_eq!(ends, [(run, "failed".to_owned())], "a worker that died is an end");
    let restarts: i32 = one(pool, "select restarts from watchbell.copies").await;
    assert_eq!(restarts, 1);
    sqlx::query("select watchbell.unschedule('daemon')").execute(pool).await.unwrap();
    until_true(pool, "not exists (select from watchbell.runs_live)", SOON).await;
    drop(third);
}

#[tokio::test]
async fn target_all_runs_on_each_process_and_what_a_killed_one_left_ends() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let names = ["a", "b", "c"];
    let mut processes = names.map(|name| Process::start(&Orders::new(&database.url, &journal, name)));
    until_true(pool, "select count(*) = 3 from watchbell.workers where state = 'running' and presence", SOON).await;
    let insert = "insert into watchbell.schedules (name, run_at, target, handler, payload) \
                  values ('tidy', now(), 'all', 'work', '{\"ms\": 0}'), ('slow', now(), 'all', 'work', '{\"ms\": 600000}')";
    sqlx::query(insert).execute(pool).await.unwrap();
    let done = "select count(*) = 3 from watchbell.runs where schedule_name = 'tidy' and status = 'normal'";
    until_true(pool, done, SOON).await;
    let each = "select count(distinct claimed_by) from watchbell.runs where schedule_name = 'tidy'";
    assert_eq!(one::<i64>(pool, each).await, 3);
    let aimed: bool = one(pool, "select bool_and(target = 'worker=' || claimed_by) from watchbell.runs").await;
    assert!(aimed);

    until_true(pool, "select count(*) = 3 from watchbell.running where schedule_name = 'slow'", SOON).await;
    processes[0].kill();
    until_true(pool, "exists (select from watchbell.runs where status = 'cancelled')", SOON).await;
    let error: String = one(pool, "select error from watchbell.runs where status = 'cancelled'").await;
    let dead: i32 = one(pool, "select id from watchbell.workers where state = 'dead'").await;
    assert_eq!(error, format!("expired: the worker that it was aimed at (worker={dead}) has ended"));
}

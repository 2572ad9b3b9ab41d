//! Schedules under several workers: every fire time once, and a fixed delay counted from the end.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::support::Database;
use crate::support::ask::one;
use crate::support::crew::{hand, start};
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::until_true;

const SOON: Duration = Duration::from_secs(40);

async fn schedule(pool: &PgPool, columns: &str, values: &str) {
    let insert = format!("insert into watchbell.schedules ({columns}) values ({values})");
    sqlx::query(sqlx::AssertSqlSafe(insert)).execute(pool).await.unwrap();
}

#[tokio::test]
async fn each_second_of_a_cron_fires_once_whoever_is_there() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let crew = [1, 2, 3].map(|n| start(hand(pool, &format!("worker {n}")).handler("tick", || async {})));
    until_true(pool, "select count(*) = 3 from watchbell.workers where state = 'running'", SOON).await;
    schedule(pool, "name, cron, handler, misfire", "'tick', '* * * * * *', 'tick', 'catch_up'").await;
    until_true(pool, "select count(*) >= 5 from watchbell.runs where status = 'normal'", SOON).await;
    for worker in crew {
        worker.stop().await;
    }
    let fired: Vec<(DateTime<Utc>, i64)> =
        sqlx::query_as("select fire_at, count(*) from watchbell.runs group by fire_at order by fire_at")
            .fetch_all(pool)
            .await
            .unwrap();
    for pair in fired.windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, TimeDelta::seconds(1), "{fired:?}");
    }
    assert!(fired.iter().all(|(at, count)| *count == 1 && at.timestamp_subsec_nanos() == 0), "{fired:?}");
    let recorded: i64 =
        one(pool, "select count(*) from watchbell.fires where disposition in ('run', 'caught_up')").await;
    assert_eq!(recorded, fired.len() as i64);
    let late: Vec<i64> = one(
        pool,
        "select array_agg((extract(epoch from started_at - fire_at) * 1000)::bigint order by fire_at) \
         from watchbell.runs where status = 'normal'",
    )
    .await;
    println!("started {late:?} ms after their fire times");
}

#[tokio::test]
async fn a_fixed_delay_never_overlaps_and_counts_from_the_end_even_after_a_kill() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let mut processes = [1, 2].map(|n| Process::start(&Orders::new(&database.url, &journal, &format!("worker {n}"))));
    until_true(pool, "select count(*) = 2 from watchbell.workers where state = 'running' and presence", SOON).await;
    schedule(
        pool,
        "name, fixed_delay, first_fire, handler, payload",
        "'sync', '1 s', 'at_once', 'work', '{\"ms\": 500, \"again_ms\": 100}'",
    )
    .await;
    until_true(pool, "select count(*) >= 2 from watchbell.runs where status = 'normal'", SOON).await;
    until_true(pool, "exists (select from watchbell.runs_live where status = 'running')", SOON).await;
    let pid: i32 = one(
        pool,
        "select coalesce((select w.pid from watchbell.workers w join watchbell.runs_live r on r.claimed_by = w.id), 0)",
    )
    .await;
    if let Some(victim) = processes.iter_mut().find(|p| p.pid() == pid.unsigned_abs()) {
        victim.kill();
    }
    let ended: i64 = one(pool, "select count(*) from watchbell.runs where status = 'normal'").await;
    let more = format!("select count(*) >= {} from watchbell.runs where status = 'normal'", ended + 3);
    until_true(pool, &more, SOON).await;

    type Times = (DateTime<Utc>, DateTime<Utc>, DateTime<Utc>, i32);
    let runs: Vec<Times> = sqlx::query_as(
        "select fire_at, started_at, finished_at, attempt from watchbell.runs where status = 'normal' order by id",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    println!("{} runs, attempts {:?}", runs.len(), runs.iter().map(|r| r.3).collect::<Vec<_>>());
    for pair in runs.windows(2) {
        let (finished, fire, started) = (pair[0].2, pair[1].0, pair[1].1);
        assert_eq!((fire - finished).num_milliseconds(), 1000, "counted from the end");
        assert!(started >= fire && started > finished, "they overlap");
    }
    let failed: i64 = one(pool, "select count(*) from watchbell.runs where status = 'failed'").await;
    assert_eq!(failed, 0);
}

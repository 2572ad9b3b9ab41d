//! Retries under three worker processes of which one is killed: attempts are numbered without holes.

use std::collections::BTreeMap;

use crate::support::Database;
use crate::support::ask::{errors, one};
use crate::support::fleet::{SOON, psql, three};
use crate::support::journal::Journal;
use crate::support::wait::until_true;
use watchbell::client::Queue;

const RETRY: &str = r#"{"strategy": "fixed", "base": "200ms", "jitter": false}"#;

#[tokio::test]
async fn attempts_are_numbered_from_one_without_holes_though_a_worker_is_killed() {
    const RUNS: i64 = 60;
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let mut fleet = three(&database, &journal).await;
    psql(
        pool,
        &format!(
            "insert into watchbell.runs (handler, payload, retry, max_attempts) \
             select 'fail', jsonb_build_object('ms', 60, 'times', i % 5), '{RETRY}', case when i % 5 = 4 then 4 else 8 end \
             from generate_series(1, {RUNS}) i"
        ),
    )
    .await;
    until_true(pool, "select count(*) > 30 from watchbell.run_errors", SOON).await;
    fleet[0].kill();
    until_true(pool, "not exists (select from watchbell.runs_live)", SOON).await;

    let mut attempts: BTreeMap<i64, Vec<(i32, i64)>> = BTreeMap::new();
    for entry in journal.entries().into_iter().filter(|e| e.event == "start") {
        attempts.entry(entry.run).or_default().push((entry.attempt, entry.fence));
    }
    assert_eq!(attempts.len(), usize::try_from(RUNS).unwrap());
    type Ended = (i64, String, i32, i64, i16, String);
    let ended: Vec<Ended> = sqlx::query_as(
        "select id, status, attempt, fence, crashes, payload->>'times' from watchbell.runs_finished order by id",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(ended.len(), attempts.len(), "one end each");
    let mut crashes = 0;
    for (id, status, attempt, fence, crashed, times) in ended {
        let times: i32 = times.parse().unwrap();
        let seen = &attempts[&id];
        let numbers: Vec<_> = seen.iter().map(|(attempt, _)| *attempt).collect();
        assert_eq!(numbers, (1..=attempt).collect::<Vec<_>>(), "run {id}");
        assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1), "run {id}: fences {seen:?}");
        assert_eq!(seen.last().map(|(_, fence)| *fence), Some(fence), "run {id}");
        // an attempt that was killed is one that the handler did not have to fail
        let expected = if times == 4 { "failed" } else { "normal" };
        assert_eq!(status, expected, "run {id}");
        assert!(attempt == (times + 1).min(4) || crashed > 0, "run {id}: {attempt} attempts");
        let failed: Vec<_> = errors(pool, id).await.into_iter().map(|(attempt, ..)| attempt).collect();
        let without_end = if status == "normal" { attempt - 1 } else { attempt };
        assert_eq!(failed, (1..=without_end).collect::<Vec<_>>(), "run {id}: a row for each that failed");
        crashes += crashed;
    }
    println!("{crashes} attempts were killed");
}

#[tokio::test]
async fn a_strict_queue_keeps_its_order_while_its_head_is_tried_again_by_three_processes() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let _fleet = three(&database, &journal).await;
    Queue::new("q").fifo().upsert(pool).await.unwrap();
    psql(
        pool,
        &format!(
            "insert into watchbell.runs (handler, queue, payload, retry, max_attempts) \
             select 'fail', 'q', jsonb_build_object('ms', 5, 'times', case when i % 3 = 1 then 2 else 0 end), \
                    '{RETRY}', 5 from generate_series(1, 9) i"
        ),
    )
    .await;
    until_true(pool, "not exists (select from watchbell.runs_live)", SOON).await;
    let first: i64 = one(pool, "select min(id) from watchbell.runs_finished").await;
    let mut expected = vec![];
    for n in 1..=9 {
        let times = if n % 3 == 1 { 2 } else { 0 };
        for attempt in 1..=times + 1 {
            expected.push((first + n - 1, attempt, "start".to_owned()));
            expected.push((first + n - 1, attempt, if attempt <= times { "fail" } else { "end" }.to_owned()));
        }
    }
    let seen: Vec<_> = journal.entries().into_iter().map(|e| (e.run, e.attempt, e.event)).collect();
    assert_eq!(seen, expected, "none starts before the one before it has ended for good");
}

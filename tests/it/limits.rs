//! Runs with a concurrency key: never more at once than the limit, and room given back by every end.

use std::time::Duration;

use chrono::TimeDelta;
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::scene::{failure, verdict};

#[tokio::test]
async fn no_limit_is_exceeded_by_four_claimers() {
    const RUNS: u64 = 2000;
    let mut scene = Scene::new().await;
    scene
        .psql(
            "insert into watchbell.limits (key, max_running) select 'k' || i, 1 + i % 4 from generate_series(0, 19) i",
        )
        .await;
    // the check runs in each claim's own transaction, before its commit
    scene
        .psql(
            "create function over_limit() returns trigger language plpgsql as $$
             begin
                 if exists (select from watchbell.limits l where l.running > l.max_running) then
                     raise exception 'a limit is exceeded';
                 end if;
                 return null;
             end $$;
             create trigger over_limit after update on watchbell.limits execute function over_limit()",
        )
        .await;
    scene
        .enqueue_many("handler, concurrency_key", format!("'mail', 'k' || i % 20 from generate_series(1, {RUNS}) i"))
        .await;
    let now = scene.now();
    let mut claimers = tokio::task::JoinSet::new();
    for name in ["a", "b", "c", "d"] {
        let mut worker = scene.worker(name, &["mail"]).await;
        let mut connection = scene.connect().await;
        claimers.spawn(async move {
            let mut finished = 0;
            let mut idle = 0;
            while idle < 50 {
                let runs = worker.claim(&mut connection, 10, Some(now)).await.unwrap();
                let over: i64 = sqlx::query_scalar(
                    "select count(*) from (select concurrency_key, count(*) as n from watchbell.runs_live \
                     where status = 'running' group by 1) r \
                     join watchbell.limits l on l.key = r.concurrency_key where r.n > l.max_running",
                )
                .fetch_one(&mut connection)
                .await
                .unwrap();
                assert_eq!(over, 0);
                idle = if runs.is_empty() { idle + 1 } else { 0 };
                let mut batch: Vec<_> = runs.iter().map(|run| verdict(run, Event::Succeeded)).collect();
                while !batch.is_empty() {
                    let recorded =
                        watchbell::lifecycle::finish::finish(&mut connection, batch, Some(now)).await.unwrap();
                    finished += recorded.accepted.len() as u64;
                    assert_eq!(recorded.superseded, [] as [i64; 0]);
                    batch = recorded.held;
                }
            }
            finished
        });
    }
    assert_eq!(claimers.join_all().await.iter().sum::<u64>(), RUNS);
    assert_eq!(scene.value::<i64>("select sum(running) from watchbell.limits").await, 0);
}

#[tokio::test]
async fn every_end_of_an_attempt_gives_its_room_back() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let hour = Duration::from_secs(3600);
    let events = [
        Event::Succeeded,
        failure(),
        Event::Fatal { message: "never".to_owned() },
        Event::Snoozed { by: hour },
        Event::Cancelled { reason: "asked".to_owned() },
        Event::Expired,
        Event::GivenBack,
        Event::Interrupted,
        Event::WorkerLost,
    ];
    for event in events {
        let wanted = scene.new_run("mail").concurrency_key("one at a time");
        scene.insert(wanted.clone()).await;
        scene.insert(wanted).await;
        let first = scene.claim_one(&mut a).await;
        scene.end(&first, event.clone()).await;
        let second = scene.claim_one(&mut a).await;
        scene.end(&second, Event::Succeeded).await;
        assert_eq!(scene.value::<i32>("select running from watchbell.limits").await, 0, "{event:?}");
        scene.psql("update watchbell.runs_live set handler = 'done with'").await;
    }
}

#[tokio::test]
async fn rescue_gives_the_room_of_a_dead_workers_run_back() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let mut lost = scene.worker("lost", &["mail"]).await;
    let wanted = scene.new_run("mail").concurrency_key("one at a time");
    scene.insert(wanted.clone()).await;
    scene.insert(wanted).await;
    scene.claim_one(&mut lost).await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.silence(&lost);
    scene.advance(TimeDelta::seconds(16)).await;
    scene.rescue(&a).await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 1);
}

#[tokio::test]
async fn a_key_with_a_long_backlog_does_not_starve_the_others() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.psql("insert into watchbell.limits (key, max_running) values ('a', 100), ('b', 100), ('c', 100)").await;
    for (key, runs) in [("a", 100), ("b", 2), ("c", 2)] {
        scene
            .enqueue_many("handler, concurrency_key", format!("'mail', '{key}' from generate_series(1, {runs})"))
            .await;
    }
    let mut others = 0;
    for _ in 0..8 {
        let run = scene.claim_one_of(&mut a).await;
        others += usize::from(run.concurrency_key.as_deref() != Some("a"));
    }
    assert_eq!(others, 4, "claimed one by one, the other keys took their turns");
}

#[tokio::test]
async fn more_keys_than_one_walk_reaches_are_all_served() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.psql("insert into watchbell.limits (key) select 'k' || i from generate_series(1, 2500) i").await;
    scene.enqueue_many("handler, concurrency_key", "'mail', 'k' || i from generate_series(1, 2500) i").await;
    let mut claimed = 0;
    for _ in 0..30 {
        claimed += scene.claim(&mut a, 100).await.len();
    }
    assert_eq!(claimed, 2500);
}

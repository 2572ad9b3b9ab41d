//! Days are made and dropped, and small things put right, while work goes on.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use sqlx::{Connection, Row};
use tokio::sync::Notify;
use tokio::time::Instant;
use watchbell::Worker;
use watchbell::lifecycle::finish::finish;
use watchbell::lifecycle::prune::{make_days, prune};
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::scene::verdict;

const MONTH: Duration = Duration::from_secs(30 * 86_400);

#[tokio::test]
async fn a_finish_that_meets_a_missing_day_is_nothing_lost_and_succeeds_once_the_day_is_made() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.enqueue("mail").await;
    let run = scene.claim_one(&mut a).await;
    let today = scene.now().format("%Y%m%d");
    scene.psql(format!("drop table watchbell.runs_finished_{today}")).await;
    let batch = || vec![verdict(&run, Event::Succeeded)];
    let now = Some(scene.now());
    assert!(finish(&mut scene.sql, batch(), now).await.is_err());
    assert_eq!(scene.status(id).await, "running");
    make_days(&mut scene.sql).await.unwrap();
    assert_eq!(scene.record(batch()).await.accepted.len(), 1);
}

#[tokio::test]
async fn a_worker_makes_the_day_that_its_finish_misses() {
    let mut scene = Scene::new().await;
    let pool = scene.database.pool.clone();
    let done = Arc::new(Notify::new());
    let handler = {
        let (pool, done) = (pool.clone(), Arc::clone(&done));
        move || {
            let (pool, done) = (pool.clone(), Arc::clone(&done));
            async move {
                let drop = "do $$ begin execute format('drop table watchbell.runs_finished_%s', \
                            to_char(now() at time zone 'UTC', 'YYYYMMDD')); end $$";
                sqlx::raw_sql(drop).execute(&pool).await.unwrap();
                done.notify_one();
            }
        }
    };
    scene.psql("insert into watchbell.runs (handler) values ('mail')").await;
    Worker::builder(pool).handler("mail", handler).run(async move { done.notified().await }).await.unwrap();
    let statuses: Vec<String> = scene.values("select status from watchbell.runs").await;
    assert_eq!(statuses, ["normal"]);
}

#[tokio::test]
async fn a_reader_of_history_delays_the_drop_of_a_day_and_not_the_finishes() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene
        .psql("select watchbell.make_day(parent, current_date - 40) from unnest(watchbell.day_parents()) parent")
        .await;
    scene.enqueue_many("handler", "'mail' from generate_series(1, 50)").await;
    let runs = scene.claim(&mut a, 50).await;
    let mut reader = scene.connect().await;
    let mut dump = reader.begin().await.unwrap();
    sqlx::raw_sql("lock table watchbell.runs_finished in access share mode").execute(&mut *dump).await.unwrap();

    let mut pruner = scene.connect().await;
    let now = Some(scene.now());
    let pruning = tokio::spawn(async move { prune(&mut pruner, MONTH, now).await.unwrap() });
    let mut slowest = Duration::ZERO;
    for run in &runs {
        let began = Instant::now();
        scene.end(run, Event::Succeeded).await;
        slowest = slowest.max(began.elapsed());
    }
    let dropped = pruning.await.unwrap().dropped;
    assert!(dropped.iter().all(|day| !day.starts_with("runs_finished")), "{dropped:?}");
    assert_eq!(dropped.len(), 5, "the other tables' days are gone: {dropped:?}");
    assert!(slowest < Duration::from_secs(1), "a finish took {slowest:?}");

    dump.commit().await.unwrap();
    let dropped = prune(&mut scene.sql, MONTH, now).await.unwrap().dropped;
    assert_eq!(dropped.len(), 1);
    assert!(dropped[0].starts_with("runs_finished_"), "{dropped:?}");
}

#[tokio::test]
async fn one_replica_prunes_at_a_time() {
    let mut scene = Scene::new().await;
    let mut other = scene.connect().await;
    let mut held = other.begin().await.unwrap();
    let lock = "select pg_advisory_xact_lock(hashtextextended('watchbell:prune', 0))";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    assert!(prune(&mut scene.sql, MONTH, None).await.unwrap().skipped);
    held.rollback().await.unwrap();
    assert!(!prune(&mut scene.sql, MONTH, None).await.unwrap().skipped);
}

#[tokio::test]
async fn a_fixed_delay_whose_run_someone_deleted_is_planned_again() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("sync", "fixed_delay", "'10 min'").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(10)).await;
    scene.fire().await;
    let now = Some(scene.now());
    assert_eq!(prune(&mut scene.sql, MONTH, now).await.unwrap().mended, 0, "its run is open");
    scene.psql(format!("{}; delete from watchbell.runs_live", crate::support::guard::OFF)).await;
    assert_eq!(prune(&mut scene.sql, MONTH, now).await.unwrap().mended, 1);
    assert_eq!(scene.schedule_row(id).await.next_fire_at, now.map(|now| now + TimeDelta::minutes(10)));
}

#[tokio::test]
async fn a_limit_that_drifted_is_counted_again() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let run = scene.new_run("mail").concurrency_key("k");
    scene.insert(run).await;
    scene.claim_one(&mut a).await;
    scene.psql("update watchbell.limits set running = 5").await;
    assert_eq!(prune(&mut scene.sql, MONTH, None).await.unwrap().mended, 1);
    assert_eq!(scene.value::<i32>("select running from watchbell.limits").await, 1);
}

#[tokio::test]
async fn days_stand_ready_two_weeks_ahead_and_one_behind() {
    let mut scene = Scene::new().await;
    let days = "select count(*) from pg_inherits where inhparent = 'watchbell.runs_finished'::regclass";
    assert_eq!(scene.value::<i64>(days).await, 16);
    scene.advance(TimeDelta::days(3)).await;
    make_days(&mut scene.sql).await.unwrap();
    assert_eq!(scene.value::<i64>(days).await, 19);
    let row = sqlx::query("select count(*) from watchbell.make_days()").fetch_one(&mut scene.sql).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0, "made once");
}

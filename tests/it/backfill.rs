//! Fire times of the past get their runs on request, each once.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell::lifecycle::backfill::{expand, work_out};
use watchbell::run::transition::Event;

use crate::rows::refusal;
use crate::support::Scene;

/// A scene with the schedule `s`, hourly, written at noon and planned.
async fn hourly() -> (Scene, i64) {
    let mut scene = Scene::new().await;
    let id = scene.schedule("s", "cron", "'0 * * * *'").await;
    scene.fire().await;
    (scene, id)
}

/// Asks for the last `hours` and works it out: the status or error, the runs made, and those that were there.
async fn backfill(scene: &mut Scene, hours: u32, dry_run: bool) -> (String, Option<i32>, Option<i32>) {
    let from = format!("watchbell.clock() - interval '{hours} h'");
    let id: i64 =
        scene.value(format!("select watchbell.backfill('s', {from}, watchbell.clock(), dry_run => {dry_run})")).await;
    assert!(expand(&mut scene.sql, id).await.unwrap());
    let row = sqlx::query_as("select coalesce(error, status), runs, existing from watchbell.backfills where id = $1");
    row.bind(id).fetch_one(&mut scene.sql).await.unwrap()
}

#[tokio::test]
async fn each_fire_time_of_the_range_gets_one_run_however_often_it_is_asked_for() {
    let (mut scene, id) = hourly().await;
    assert_eq!(backfill(&mut scene, 5, false).await, ("normal".to_owned(), Some(6), Some(0)));
    assert_eq!(backfill(&mut scene, 6, false).await, ("normal".to_owned(), Some(1), Some(6)));
    let rows = "select fire_at from watchbell.runs where trigger = 'backfill' and priority = 9 order by fire_at";
    let times: Vec<DateTime<Utc>> = scene.values(rows).await;
    let now = scene.now();
    assert_eq!(times, (0..7).rev().map(|h| now - TimeDelta::hours(h)).collect::<Vec<_>>());
    let accounted =
        "select count(*) from watchbell.schedule_history where disposition = 'backfilled' and status = 'pending'";
    assert_eq!(scene.value::<i64>(accounted).await, 7);
    assert_eq!(scene.schedule_row(id).await.next_fire_at, Some(now + TimeDelta::hours(1)), "its plan stays");
}

#[tokio::test]
async fn a_fire_time_that_was_skipped_gets_its_run_and_keeps_the_reason() {
    let mut scene = Scene::new().await;
    scene.schedule("s", "cron, misfire", "'0 * * * *', 'skip'").await;
    scene.fire().await;
    scene.advance(TimeDelta::hours(3) + TimeDelta::minutes(30)).await;
    scene.fire().await;
    assert_eq!(backfill(&mut scene, 3, false).await.1, Some(3));
    let row: (String, bool) =
        sqlx::query_as("select disposition, run_id is not null from watchbell.fires order by fire_at limit 1")
            .fetch_one(&mut scene.sql)
            .await
            .unwrap();
    assert_eq!(row, ("skipped_misfire".to_owned(), true));
    assert_eq!(backfill(&mut scene, 3, false).await.1, Some(0));
}

#[tokio::test]
async fn a_dry_run_says_which_and_makes_none() {
    let (mut scene, _) = hourly().await;
    assert_eq!(backfill(&mut scene, 3, true).await, ("normal".to_owned(), Some(0), Some(0)));
    assert_eq!(scene.value::<i32>("select cardinality(fire_times) from watchbell.backfills").await, 4);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs").await, 0);
}

#[tokio::test]
async fn fire_times_older_than_the_days_that_are_kept_get_runs_and_no_days() {
    let (mut scene, _) = hourly().await;
    scene.psql("update watchbell.schedules set cron = '0 0 1 1 *'").await;
    let days = "select count(*) from pg_inherits where inhparent = 'watchbell.fires'::regclass";
    let before: i64 = scene.value(days).await;
    for (runs, existing) in [(5, 0), (0, 5)] {
        assert_eq!(
            backfill(&mut scene, 24 * 365 * 5 + 48, false).await,
            ("normal".to_owned(), Some(runs), Some(existing))
        );
    }
    assert!(scene.value::<i64>(days).await <= before + 1);
}

#[tokio::test]
async fn runs_of_a_backfill_take_turns() {
    let (mut scene, _) = hourly().await;
    backfill(&mut scene, 3, false).await;
    let mut worker = scene.worker("w", &["mail"]).await;
    let first = scene.claim_one(&mut worker).await;
    assert_eq!(first.fire_at, Some(scene.now() - TimeDelta::hours(3)), "the oldest first");
}

#[tokio::test]
async fn a_range_that_is_too_large_or_senseless_is_refused() {
    let (mut scene, _) = hourly().await;
    let (answer, runs, _) = backfill(&mut scene, 2000, false).await;
    assert!(answer.starts_with("the range holds more than 1000 fire times; the last that fits is 20"), "{answer}");
    assert_eq!(runs, Some(0));
    scene.schedule("d", "fixed_delay", "'5 min'").await;
    for (arguments, problem) in [
        ("'s', watchbell.clock() + interval '2 days', watchbell.clock()", "is after to"),
        ("'s', watchbell.clock() - interval '1 h', watchbell.clock() + interval '1 h'", "is in the future"),
        ("'s', null, watchbell.clock()", "from or to is missing"),
        ("'d', '2020-01-01', '2020-01-02'", "kind fixed_delay has no fire times of the past"),
    ] {
        let refused = refusal(&mut scene.sql, &format!("select watchbell.backfill({arguments})")).await;
        assert!(refused.message.contains(problem), "{arguments}: {}", refused.message);
        assert_eq!(refused.code, "22023");
    }
}

#[tokio::test]
async fn whoever_holds_the_schedule_delays_a_backfill_and_loses_nothing() {
    let (mut scene, _) = hourly().await;
    let id: i64 =
        scene.value("select watchbell.backfill('s', watchbell.clock() - interval '1 h', watchbell.clock())").await;
    let mut other = scene.connect().await;
    sqlx::raw_sql("begin; update watchbell.schedules set description = 'x'").execute(&mut other).await.unwrap();
    assert!(!expand(&mut scene.sql, id).await.unwrap());
    sqlx::raw_sql("commit").execute(&mut other).await.unwrap();
    let worker = scene.worker("w", &["mail"]).await;
    let asked = watchbell::lifecycle::requests::requests(&mut scene.sql, worker.id()).await.unwrap();
    assert_eq!(asked.backfills, [id], "it is still asked for");
    assert!(expand(&mut scene.sql, id).await.unwrap());
    let asked = watchbell::lifecycle::requests::requests(&mut scene.sql, worker.id()).await.unwrap();
    assert!(asked.backfills.is_empty());
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs").await, 2);
}

#[tokio::test]
async fn a_backfill_that_the_database_refuses_fails_and_stops_no_worker() {
    let (mut scene, _) = hourly().await;
    let ask = "select watchbell.backfill('s', watchbell.clock() - interval '1 h', watchbell.clock())";
    let id: i64 = scene.value(ask).await;
    scene.psql("alter table watchbell.runs_live add constraint no_more check (trigger <> 'backfill')").await;
    assert!(!work_out(&mut scene.sql, id).await.unwrap());
    let error: String = scene.value("select status || ': ' || error from watchbell.backfills").await;
    assert!(error.starts_with("failed: ") && error.contains("no_more"), "{error}");
    let open = "select count(*) from watchbell.worker_requests where handled_at is null";
    assert_eq!(scene.value::<i64>(open).await, 0);
}

#[tokio::test]
async fn workers_that_work_out_backfills_at_once_make_each_run_once() {
    let (mut scene, _) = hourly().await;
    let mut ids = vec![];
    for _ in 0..3 {
        let ask = "select watchbell.backfill('s', watchbell.clock() - interval '9 h', watchbell.clock())";
        ids.push(scene.value::<i64>(ask).await);
    }
    let mut workers = vec![];
    for _ in 0..4 {
        let (mut connection, ids) = (scene.connect().await, ids.clone());
        workers.push(tokio::spawn(async move {
            for id in ids {
                while !expand(&mut connection, id).await.unwrap() {}
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let made: Vec<i32> = scene.values("select runs from watchbell.backfills order by runs").await;
    assert_eq!(made, [0, 0, 10]);
    assert_eq!(scene.value::<i64>("select count(distinct fire_at) from watchbell.runs").await, 10);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs").await, 10);
}

#[tokio::test]
async fn each_end_of_a_backfilled_run_is_told_like_that_of_any_other() {
    let (mut scene, _) = hourly().await;
    scene.psql("update watchbell.schedules set callback_url = 'https://example.org/done'").await;
    assert_eq!(backfill(&mut scene, 2, false).await, ("normal".to_owned(), Some(3), Some(0)));
    let mut a = scene.worker("a", &["mail"]).await;
    let mut expected = vec![];
    for (event, status) in [
        (Event::Succeeded, "normal"),
        (Event::Fatal { message: "never".to_owned() }, "failed"),
        (Event::Succeeded, "normal"),
    ] {
        let run = scene.claim_one(&mut a).await; // they take turns
        scene.end(&run, event).await;
        expected.push((run.id, status.to_owned()));
    }
    let told: Vec<(i64, String)> = sqlx::query_as(
        "select (payload->'body'->>'run_id')::bigint, payload->'body'->>'status' from watchbell.runs_live \
         where trigger = 'callback' order by 1",
    )
    .fetch_all(&mut scene.sql)
    .await
    .unwrap();
    expected.sort();
    assert_eq!(told, expected);
}

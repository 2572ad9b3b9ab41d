//! A program steers schedules, runs, queues and workers in its own transaction, and is told what went wrong.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use watchbell::client::{self, Activity, Failed, NewRun, NewSchedule, Schedules};
use watchbell::{Error, RunId, Status};

use crate::support::Scene;
use crate::support::crew::{hand, start};
use crate::support::database::Database;
use crate::support::scene::failure;

async fn nothing() {}

#[tokio::test]
async fn a_run_is_waited_for_until_it_is_over_or_the_time_is() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let id = NewRun::new("mail").insert(pool).await.unwrap().unwrap();
    let early = client::wait(pool, id, Duration::from_millis(30)).await.unwrap();
    assert!(early.is_none(), "nobody runs it");
    let worker = start(hand(pool, "w").handler("mail", nothing));
    let run = client::wait(pool, id, Duration::from_secs(30)).await.unwrap().expect("it is over within 30 s");
    assert_eq!((run.id, run.status), (id, Status::Normal));
    worker.stop().await;
    let unknown = client::wait(pool, RunId(99), None).await.unwrap_err();
    assert!(matches!(unknown, Error::NotFound { kind: "run", .. }), "{unknown}");
}

#[tokio::test]
async fn a_pause_a_skip_and_a_run_now_are_part_of_the_callers_transaction() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    NewSchedule::cron("s", "@daily", "mail").insert(pool).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    client::pause(&mut *tx, "s", Some("why"), None).await.unwrap();
    client::run_now(&mut *tx, "s").await.unwrap();
    tx.rollback().await.unwrap();
    let row = Schedules::new().fetch(pool).await.unwrap().remove(0);
    assert_eq!((row.paused_at, row.pause_note), (None, None));
    client::pause(pool, "s", Some("why"), None).await.unwrap();
    let id = client::run_now_with(pool, "s", &json!({"only": "me"})).await.unwrap();
    let run = client::run(pool, id).await.unwrap();
    assert_eq!((run.trigger.as_str(), run.payload.get()), ("run_now", r#"{"only": "me"}"#));
    assert_eq!(Schedules::new().fetch(pool).await.unwrap()[0].pause_note.as_deref(), Some("why"));
    client::resume(pool, "s").await.unwrap();
    assert_eq!(client::cancel_schedule(pool, "s", None).await.unwrap(), 1);
    client::unschedule(pool, "s").await.unwrap();
    assert!(Schedules::new().fetch(pool).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_list_of_schedules_shows_the_next_and_the_previous_fire_time() {
    let mut scene = Scene::new().await;
    scene.schedule("s", "cron", "'*/10 * * * *'").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(10)).await;
    scene.fire().await;
    let row = Schedules::new().fetch(&mut scene.sql).await.unwrap().remove(0);
    assert_eq!((row.last_fire_at, row.next_fire_at), (Some(scene.now()), Some(scene.now() + TimeDelta::minutes(10))));
    let skipped = client::skip_next(&mut scene.sql, "s").await.unwrap();
    assert_eq!(Some(skipped), row.next_fire_at);
    let unplanned = client::skip_next(&mut scene.sql, "s").await.unwrap_err();
    assert_eq!(unplanned.to_string(), "schedule \"s\" has no next fire time to skip: it is not planned yet");
    assert!(matches!(unplanned, Error::Conflict(_)));
}

#[tokio::test]
async fn what_failed_is_tried_again_as_a_new_run() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("w", &["mail"]).await;
    for _ in 0..2 {
        let run = scene.new_run("mail").max_attempts(1);
        scene.insert(run).await;
    }
    let runs = scene.claim(&mut worker, 2).await;
    let open = client::retry(&mut scene.sql, RunId(runs[0].id)).await.unwrap_err();
    assert!(matches!(&open, Error::Conflict(m) if m.ends_with("it is running and has not ended")), "{open}");
    for run in &runs {
        scene.end(run, failure()).await;
    }
    let again = client::retry(&mut scene.sql, RunId(runs[0].id)).await.unwrap();
    assert_eq!(client::run(&mut scene.sql, again).await.unwrap().retry_of, Some(RunId(runs[0].id)));
    let failed = Failed::new().handler("mail").queue("default").since(scene.now() - TimeDelta::hours(1));
    assert_eq!(failed.retry(&mut scene.sql).await.unwrap(), 1);
    assert!(matches!(Failed::new().max(0).retry(&mut scene.sql).await, Err(Error::Invalid { .. })));
    let unknown = Failed::new().schedule("none").retry(&mut scene.sql).await.unwrap_err();
    assert!(matches!(unknown, Error::NotFound { kind: "schedule", .. }), "{unknown}");
}

#[tokio::test]
async fn a_backfill_by_a_program_needs_no_worker() {
    let mut scene = Scene::new().await;
    scene.schedule("s", "cron", "'0 * * * *'").await;
    let (from, to) = (scene.now() - TimeDelta::hours(2), scene.now());
    let dry = client::backfill(&mut scene.sql, "s", from, to, true).await.unwrap();
    assert_eq!((dry.fire_times.len(), dry.runs), (3, 0));
    let done = client::backfill(&mut scene.sql, "s", from, to, false).await.unwrap();
    assert_eq!((done.fire_times, done.runs), (dry.fire_times, 3));
    let again = client::backfill(&mut scene.sql, "s", from, to, false).await.unwrap();
    assert_eq!((again.runs, again.existing), (0, 3));
    let large = client::backfill(&mut scene.sql, "s", from - TimeDelta::days(365), to, false).await.unwrap_err();
    assert!(large.to_string().contains("more than 1000 fire times"), "{large}");
    let reversed = client::backfill(&mut scene.sql, "s", to, from, false).await.unwrap_err();
    assert!(reversed.to_string().contains("is after to"), "{reversed}");
}

#[tokio::test]
async fn an_unknown_name_comes_with_the_nearest_one() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    NewSchedule::cron("nightly", "@daily", "mail").insert(pool).await.unwrap();
    let unknown = client::pause(pool, "nigthly", None, None).await.unwrap_err();
    assert_eq!(unknown.to_string(), "schedule \"nigthly\" does not exist; did you mean \"nightly\"?");
    let unknown = client::resume_queue(pool, "none").await.unwrap_err();
    assert_eq!(unknown.to_string(), "queue \"none\" does not exist");
    let unknown = client::drain(pool, 7, None).await.unwrap_err();
    assert_eq!(unknown.to_string(), "worker \"7\" does not exist");
}

#[tokio::test]
async fn a_real_worker_drains_on_request_and_works_a_backfill_out() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    NewSchedule::cron("s", "* * * * *", "mail").insert(pool).await.unwrap();
    let worker = start(hand(pool, "w").handler("mail", nothing));
    let ask = "select watchbell.backfill('s', now() - interval '5 min', now())";
    let id: i64 = sqlx::query_scalar(ask).fetch_one(pool).await.unwrap();
    let done = format!("exists (select from watchbell.backfills where id = {id} and status = 'normal' and runs >= 5)");
    crate::support::wait::until_true(pool, &done, Duration::from_secs(30)).await;
    let all = "(select count(*) >= 5 from watchbell.runs where trigger = 'backfill' and status = 'normal')";
    crate::support::wait::until_true(pool, all, Duration::from_secs(30)).await;
    client::pause_queue(pool, "default", None).await.unwrap();
    client::resume_queue(pool, "default").await.unwrap();
    let number: i32 = sqlx::query_scalar("select id from watchbell.worker_status").fetch_one(pool).await.unwrap();
    client::drain(pool, number, Some("a new release")).await.unwrap();
    let stopped = "exists (select from watchbell.worker_status where state = 'stopped')";
    crate::support::wait::until_true(pool, stopped, Duration::from_secs(30)).await;
    worker.stop().await;
    let over = client::undrain(pool, number).await.unwrap();
    assert!(!over);
}

#[tokio::test]
async fn who_changed_what_is_listed_with_the_one_it_was_done_for() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    NewSchedule::cron("s", "@daily", "mail").insert(pool).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    client::act_for(&mut *tx, "anna").await.unwrap();
    client::pause(&mut *tx, "s", Some("why"), None).await.unwrap();
    tx.commit().await.unwrap();
    client::pause_queue(pool, "q", None).await.unwrap();
    let all = Activity::new().fetch(pool).await.unwrap();
    assert_eq!(all.iter().map(|row| row.what.as_str()).collect::<Vec<_>>(), ["pause", "pause", "insert"]);
    assert_eq!((all[0].kind.as_str(), &all[0].actor), ("queue", &all[0].login), "the name ends with its transaction");
    let annas = Activity::new().kind("schedule").name("s").actor("anna").limit(5).fetch(pool).await.unwrap();
    assert_eq!((annas.len(), annas[0].id), (1, all[1].id));
    assert!(annas[0].after.as_ref().unwrap().get().contains("\"why\""));
    assert_eq!(Activity::new().before(all[1].id).fetch(pool).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_paused_queue_stops_a_busy_worker_within_a_second_or_two() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "w").slots(1).handler("mail", async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }));
    client::insert_many(pool, (0..2000).map(|_| NewRun::new("mail"))).await.unwrap();
    let busy = "(select count(*) >= 5 from watchbell.runs_finished)";
    crate::support::wait::until_true(pool, busy, Duration::from_secs(30)).await;
    client::pause_queue(pool, "default", None).await.unwrap();
    // nothing has started for a second, with 40 s of work left
    let quiet = "not exists (select from watchbell.running) \
                 and (select max(started_at) < clock_timestamp() - interval '1 s' from watchbell.runs_finished) \
                 and exists (select from watchbell.queue_status where ready > 100)";
    let took = crate::support::wait::until_true(pool, quiet, Duration::from_secs(20)).await;
    println!("quiet for a second {took:?} after the pause");
    client::resume_queue(pool, "default").await.unwrap();
    let before: i64 = sqlx::query_scalar("select count(*) from watchbell.runs_finished").fetch_one(pool).await.unwrap();
    let again = format!("(select count(*) > {before} from watchbell.runs_finished)");
    crate::support::wait::until_true(pool, &again, Duration::from_secs(20)).await;
    worker.stop().await;
}

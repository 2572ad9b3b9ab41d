//! Every change that a person makes leaves a row; what the engine does by itself leaves none.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::Scene;

/// The entries since `after`, oldest first: what, kind, name, before, after.
async fn entries(scene: &mut Scene) -> Vec<(String, String, Option<String>, Option<Value>, Option<Value>)> {
    let query = "select what, kind, name, before, after from watchbell.activity order by id";
    sqlx::query_as(query).fetch_all(&mut scene.sql).await.unwrap()
}

#[tokio::test]
async fn a_raw_edit_leaves_a_row_with_what_changed_and_who_did_it() {
    let mut scene = Scene::new().await;
    scene.schedule("s", "cron, payload", "'@daily', '{\"secret\": 1}'").await;
    scene.psql("truncate watchbell.activity").await;
    scene.psql("set watchbell.actor = 'anna@example.org'; set application_name = 'psql'").await;
    scene.psql("update watchbell.schedules set cron = '@hourly', queue = 'q' where name = 's'").await;
    let entry = entries(&mut scene).await.remove(0);
    assert_eq!((entry.0.as_str(), entry.1.as_str(), entry.2.as_deref()), ("update", "schedule", Some("s")));
    assert_eq!(entry.3, Some(json!({"cron": "@daily", "queue": "default"})));
    assert_eq!(entry.4, Some(json!({"cron": "@hourly", "queue": "q"})));
    let who = "select actor = 'anna@example.org' and login = session_user and application_name = 'psql'
               from watchbell.activity";
    assert!(scene.value::<bool>(who).await);
}

#[tokio::test]
async fn an_edit_that_changes_nothing_leaves_no_row() {
    let mut scene = Scene::new().await;
    scene.schedule("s", "cron", "'@daily'").await;
    scene.psql("truncate watchbell.activity").await;
    scene.psql("update watchbell.schedules set cron = cron, declared_version = 7").await;
    assert!(entries(&mut scene).await.is_empty());
}

#[tokio::test]
async fn what_the_engine_writes_leaves_no_row() {
    let mut scene = Scene::new().await;
    let columns = "cron, concurrency_key, overlap, max_running, queue";
    scene.schedule("s", columns, "'* * * * *', 'k', 'queue_all', 2, 'new'").await;
    scene.schedule("d", "fixed_delay, overlap", "'1 min', 'cancel_running'").await;
    scene.psql("truncate watchbell.activity").await;
    let mut worker = scene.worker("w", &["mail"]).await;
    for _ in 0..3 {
        scene.fire().await;
        for run in scene.claim(&mut worker, 10).await {
            scene.end(&run, watchbell::run::transition::Event::Succeeded).await;
        }
        scene.advance(TimeDelta::minutes(1)).await;
    }
    assert!(scene.value::<i64>("select count(*) from watchbell.runs_finished").await >= 4);
    assert_eq!(entries(&mut scene).await, []);
}

#[tokio::test]
async fn each_function_and_each_kind_of_object_leaves_its_row() {
    let mut scene = Scene::new().await;
    scene.schedule("s", "cron", "'@daily'").await;
    scene.fire().await;
    let mut worker = scene.worker("w", &["mail"]).await;
    scene.psql("truncate watchbell.activity").await;
    scene.psql("select watchbell.pause('s', 'why')").await;
    scene.psql("select watchbell.resume('s')").await;
    scene.fire().await;
    scene.psql("select watchbell.skip_next('s')").await;
    scene.psql("select watchbell.run_now('s')").await;
    let run = scene.claim_one(&mut worker).await.id;
    scene.psql(format!("select watchbell.cancel({run}, 'enough')")).await;
    let waiting: i64 = scene.value("select watchbell.enqueue('mail')").await;
    scene.psql(format!("select watchbell.cancel({waiting})")).await;
    scene.psql(format!("select watchbell.retry({waiting})")).await;
    scene.psql("select watchbell.pause_queue('default'); select watchbell.resume_queue('default')").await;
    scene.psql(format!("select watchbell.drain({})", worker.id())).await;
    scene.psql(format!("select watchbell.undrain({})", worker.id())).await;
    scene.psql("insert into watchbell.limits (key, max_running) values ('l', 5)").await;
    scene.psql("update watchbell.limits set max_running = 6; delete from watchbell.limits where key = 'l'").await;
    scene.psql("select watchbell.backfill('s', watchbell.clock() - interval '2 days', watchbell.clock())").await;
    scene.psql("select watchbell.unschedule('s')").await;
    let seen: Vec<String> = entries(&mut scene).await.iter().map(|e| format!("{} {}", e.0, e.1)).collect();
    assert_eq!(
        seen,
        [
            "pause schedule",
            "resume schedule",
            "skip_next schedule",
            "run_now schedule",
            "cancel run",
            "cancel run",
            "retry run",
            "pause queue",
            "resume queue",
            "drain worker",
            "undrain worker",
            "insert limit",
            "update limit",
            "delete limit",
            "backfill schedule",
            "delete schedule",
        ]
    );
}

#[tokio::test]
async fn a_change_is_noted_although_no_worker_has_made_the_day() {
    let mut scene = Scene::new().await;
    scene.psql("set watchbell.now = '2031-05-06 12:00Z'").await;
    scene.schedule("s", "cron", "'@daily'").await;
    assert_eq!(entries(&mut scene).await.len(), 1);
    assert!(scene.value::<bool>("select to_regclass('watchbell.activity_20310506') is not null").await);
}

#[tokio::test]
async fn a_large_value_is_noted_by_its_size() {
    let mut scene = Scene::new().await;
    scene.schedule("s", "cron, payload", "'@daily', jsonb_build_object('a', repeat('x', 100000))").await;
    let size: i32 = scene.value("select octet_length(after::text) from watchbell.activity").await;
    assert!(size < 9000, "{size}");
}

#[tokio::test]
async fn a_schedule_that_pauses_itself_says_so() {
    let mut scene = Scene::new().await;
    scene.schedule("s", "cron, max_attempts, pause_after_failures", "'* * * * *', 1, 1").await;
    scene.fire().await;
    scene.psql("truncate watchbell.activity").await;
    scene.advance(TimeDelta::minutes(1)).await;
    scene.fire().await;
    let mut worker = scene.worker("w", &["mail"]).await;
    let run = scene.claim_one(&mut worker).await;
    scene.end(&run, crate::support::scene::failure()).await;
    let entry = entries(&mut scene).await.remove(0);
    let after = entry.4.unwrap();
    assert_eq!(
        (entry.0.as_str(), after["paused_by"].as_str(), after["pause_note"].as_str()),
        ("pause", Some("watchbell"), Some("paused after 1 failures in a row"))
    );
}

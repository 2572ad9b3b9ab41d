//! The views that people and programs read.

use chrono::TimeDelta;
use serde_json::Value;

use crate::support::Scene;
use crate::support::scene::failure;

/// The rows of a view as objects.
async fn rows(scene: &mut Scene, view: &str) -> Vec<Value> {
    scene.values(format!("select to_jsonb(v) from (select * from watchbell.{view}) v")).await
}

#[tokio::test]
async fn what_runs_and_who_runs_it_is_shown() {
    let mut scene = Scene::new().await;
    scene.enqueue("mail").await;
    let waiting = scene.new_run("mail").queue("slow");
    scene.insert(waiting).await;
    let mut worker = scene.worker("anna", &["mail"]).await;
    let run = scene.claim_one_of(&mut worker).await;
    scene.psql(format!("select watchbell.cancel({})", run.id)).await;
    let running = rows(&mut scene, "running").await;
    assert_eq!(running.len(), 1);
    assert_eq!((running[0]["id"].as_i64(), running[0]["worker"].as_str()), (Some(run.id), Some("anna")));
    assert!(!running[0]["cancel_requested_at"].is_null() && !running[0]["times_out_at"].is_null());
    let workers = rows(&mut scene, "worker_status").await;
    assert_eq!((workers[0]["running"].as_i64(), workers[0]["state"].as_str()), (Some(1), Some("running")));
}

#[tokio::test]
async fn a_queue_shows_what_waits_and_since_when() {
    let mut scene = Scene::new().await;
    let old = scene.new_run("mail").queue("q").run_at(scene.now() - TimeDelta::days(1)).priority(9);
    scene.insert(old).await;
    let now = scene.now();
    for run in [
        scene.new_run("mail").run_at(now - TimeDelta::hours(14)),
        scene.new_run("mail").run_at(now + TimeDelta::days(1)),
    ] {
        scene.insert(run.queue("q")).await;
    }
    scene.psql("select watchbell.pause_queue('q', 'why')").await;
    let queues = rows(&mut scene, "queue_status where queue = 'q'").await;
    assert_eq!(
        (queues[0]["ready"].as_i64(), queues[0]["later"].as_i64(), queues[0]["pause_note"].as_str()),
        (Some(2), Some(1), Some("why"))
    );
    let oldest = scene.value::<bool>(
        "select oldest_ready_at = watchbell.clock() - interval '1 day' from watchbell.queue_status where queue = 'q'",
    );
    assert!(oldest.await);
}

#[tokio::test]
async fn a_queue_with_a_long_backlog_is_counted_only_so_far() {
    let mut scene = Scene::new().await;
    scene.enqueue_many_in("-2 days", "handler", "'mail' from generate_series(1, 10500)").await;
    let queue = rows(&mut scene, "queue_status").await.remove(0);
    assert_eq!((queue["ready"].as_i64(), queue["capped"].as_bool()), (Some(10001), Some(true)));
}

#[tokio::test]
async fn a_failure_is_shown_with_its_reason_and_its_retry() {
    let mut scene = Scene::new().await;
    let run = scene.new_run("mail").max_attempts(1);
    scene.insert(run).await;
    let mut worker = scene.worker("w", &["mail"]).await;
    let run = scene.claim_one(&mut worker).await;
    scene.end(&run, failure()).await;
    let failed = rows(&mut scene, "recent_failures").await;
    assert_eq!((failed[0]["error"].as_str(), failed[0]["retried_as"].as_i64()), (Some("it broke"), None));
    let retry: i64 = scene.value(format!("select watchbell.retry({})", run.id)).await;
    assert_eq!(rows(&mut scene, "recent_failures").await[0]["retried_as"].as_i64(), Some(retry));
}

#[tokio::test]
async fn no_view_shows_an_infinite_time_or_a_payload() {
    let mut scene = Scene::new().await;
    let views = ["upcoming", "running", "recent_failures", "queue_status", "worker_status", "schedule_history"];
    let bare: Vec<String> = scene
        .values(
            "select table_name || '.' || column_name from information_schema.columns
             where table_schema = 'watchbell' and column_name in ('payload', 'wake_at', 'sleepers_until')
               and table_name in (select table_name from information_schema.views where table_schema = 'watchbell')
               and table_name <> 'runs'",
        )
        .await;
    assert!(bare.is_empty(), "{bare:?}");
    scene.schedule("s", "cron", "'@daily'").await;
    scene.schedule("d", "fixed_delay", "'1 min'").await;
    for view in views {
        let text: Vec<String> = scene.values(format!("select v::text from watchbell.{view} v")).await;
        assert!(text.iter().all(|row| !row.contains("infinity")), "{view}: {text:?}");
    }
}

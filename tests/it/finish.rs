//! What becomes of a run when its attempt is over.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::Connection;
use watchbell::lifecycle::claim::Claimed;
use watchbell::lifecycle::finish::finish;
use watchbell::lifecycle::requests::{Asked, requests};
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::scene::{failure, verdict};

#[tokio::test]
async fn each_event_leaves_its_status_attempt_and_error() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let after = Some(Duration::from_secs(7));
    let failed = Event::Failed { kind: "panic", message: "oh".to_owned(), after };
    let table = [
        (Event::Succeeded, "normal", 1, None),
        (failed, "pending", 1, Some("oh")),
        (Event::Fatal { message: "never".to_owned() }, "failed", 1, Some("never")),
        (Event::Snoozed { by: Duration::from_secs(7) }, "pending", 0, None),
        (Event::Cancelled { reason: "asked".to_owned() }, "cancelled", 1, Some("asked")),
        (Event::Expired, "cancelled", 0, Some("start deadline passed before it started")),
        (Event::GivenBack, "pending", 0, None),
        (Event::Interrupted, "pending", 1, Some("stopped because its worker shut down")),
    ];
    for (event, status, attempt, error) in table {
        let due = scene.now();
        let id = scene.enqueue("mail").await;
        let claimed = scene.claim_one(&mut a).await;
        scene.advance(TimeDelta::seconds(1)).await;
        let delayed = matches!(event, Event::Failed { .. } | Event::Snoozed { .. });
        scene.end(&claimed, event.clone()).await;
        let run = scene.run(id).await;
        let seen = (run.status.as_str(), run.attempt, run.error.as_deref());
        assert_eq!(seen, (status, attempt, error), "{event:?}");
        assert_eq!(run.fence, 1, "{event:?}");
        assert_eq!(run.run_at, if delayed { scene.now() + TimeDelta::seconds(7) } else { due }, "{event:?}");
        assert_eq!(run.finished_at, (status != "pending").then(|| scene.now()), "{event:?}");
        let errors: i64 = scene.value(format!("select count(*) from watchbell.run_errors where run_id = {id}")).await;
        assert_eq!(errors, i64::from(error.is_some()), "{event:?}");
        scene.psql(format!("update watchbell.runs_live set handler = 'done with' where id = {id}")).await;
    }
}

#[tokio::test]
async fn a_zombies_late_finish_is_refused_and_counted_as_superseded() {
    let mut scene = Scene::new().await;
    let mut zombie = scene.worker("zombie", &["mail"]).await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.enqueue("mail").await;
    let old = scene.claim_one(&mut zombie).await;
    scene.silence(&zombie);
    scene.advance(TimeDelta::seconds(16)).await;
    assert_eq!(scene.rescue(&a).await.accepted.len(), 1);
    let late = scene.finish(&[(&old, Event::Succeeded)]).await;
    assert_eq!((late.accepted.len(), late.superseded), (0, vec![id]), "while it waits");
    let new = scene.claim_one(&mut a).await;
    assert_eq!((new.fence, new.attempt), (2, 2));
    let late = scene.finish(&[(&old, failure())]).await;
    assert_eq!(late.superseded, [id], "while another runs it");
    scene.end(&new, Event::Succeeded).await;
    let late = scene.finish(&[(&old, failure()), (&new, Event::Succeeded)]).await;
    assert_eq!(late.superseded, [id, id], "after its end");
    assert_eq!(scene.status(id).await, "normal");
}

#[tokio::test]
async fn a_schedule_in_someones_open_transaction_holds_up_its_own_runs_only() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let edited = scene.schedule("edited", "run_at", "watchbell.clock()").await;
    scene.schedule("other", "run_at", "watchbell.clock()").await;
    scene.enqueue("mail").await;
    scene.fire().await;
    let runs = scene.claim(&mut a, 10).await;
    let mut person = scene.connect().await;
    for commits in [true, false] {
        let mut edit = person.begin().await.unwrap();
        sqlx::query("update watchbell.schedules set description = 'new' where id = $1")
            .bind(edited)
            .execute(&mut *edit)
            .await
            .unwrap();
        let ends: Vec<_> = runs.iter().map(|run| (run, Event::Succeeded)).collect();
        let recorded = scene.finish(&ends).await;
        let held: Vec<_> = recorded.held.iter().map(|held| held.schedule_id).collect();
        assert_eq!(held, [Some(edited)]);
        assert_eq!(recorded.accepted.len(), if commits { 2 } else { 0 }, "the others are recorded, once");
        if commits {
            edit.commit().await.unwrap();
        } else {
            edit.rollback().await.unwrap();
            let recorded = scene.record(recorded.held).await;
            assert_eq!(recorded.accepted.len(), 1);
        }
    }
    let row = scene.schedule_row(edited).await;
    assert_eq!((row.last_status.as_deref(), row.last_finished_at), (Some("normal"), Some(scene.now())));
}

#[tokio::test]
async fn a_limit_in_someones_open_transaction_holds_up_its_own_runs_only() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    for key in ["edited", "other"] {
        let run = scene.new_run("mail").concurrency_key(key);
        scene.insert(run).await;
    }
    scene.enqueue("mail").await;
    let runs = scene.claim(&mut a, 10).await;
    let mut person = scene.connect().await;
    let mut edit = person.begin().await.unwrap();
    sqlx::query("update watchbell.limits set max_running = 7 where key = 'edited'").execute(&mut *edit).await.unwrap();
    let ends: Vec<_> = runs.iter().map(|run| (run, Event::Succeeded)).collect();
    let recorded = scene.finish(&ends).await;
    assert_eq!((recorded.accepted.len(), recorded.held.len(), recorded.superseded.len()), (2, 1, 0));
    edit.commit().await.unwrap();
    let recorded = scene.record(recorded.held).await;
    assert_eq!(recorded.accepted.len(), 1);
    let running: Vec<i32> = scene.values("select running from watchbell.limits").await;
    assert_eq!(running, [0, 0]);
}

#[tokio::test]
async fn a_deleted_schedules_run_finishes() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("brief", "run_at, overlap", "watchbell.clock(), 'queue_all'").await;
    scene.fire().await;
    let run = scene.claim_one(&mut a).await;
    scene.psql(format!("delete from watchbell.schedules where id = {id}; delete from watchbell.limits")).await;
    scene.end(&run, Event::Succeeded).await;
    let ended = scene.run(run.id).await;
    assert_eq!((ended.status.as_str(), ended.schedule_name.as_deref()), ("normal", Some("brief")));
}

#[tokio::test]
async fn retries_wait_as_their_policy_says_and_end_with_the_last_attempt() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let retry = r#"{"strategy": "list", "list": ["7s", "1m"], "jitter": false}"#;
    scene.enqueue_many("handler, retry", format!("'mail', '{retry}'")).await;
    let mut waits = vec![];
    loop {
        let claimed = scene.claim_one(&mut a).await;
        scene.end(&claimed, failure()).await;
        let run = scene.run(claimed.id).await;
        if run.status == "failed" {
            assert_eq!((run.attempt, run.error.as_deref()), (3, Some("it broke")));
            break;
        }
        let wait = run.run_at - scene.now();
        scene.advance(wait - TimeDelta::milliseconds(1)).await;
        assert_eq!(scene.claim(&mut a, 1).await.len(), 0);
        scene.advance(TimeDelta::milliseconds(1)).await;
        waits.push(wait.num_seconds());
    }
    assert_eq!(waits, [7, 60]);
    assert_eq!(scene.value::<i64>("select count(distinct attempt) from watchbell.run_errors").await, 3);
}

#[tokio::test]
async fn a_snooze_keeps_the_attempt_and_still_raises_the_fence() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let run = scene.new_run("mail").max_attempts(1);
    let id = scene.insert(run).await;
    for fence in 1..=5 {
        let claimed = scene.claim_one(&mut a).await;
        assert_eq!((claimed.attempt, claimed.fence), (1, fence));
        scene.end(&claimed, Event::Snoozed { by: Duration::from_secs(60) }).await;
        scene.advance(TimeDelta::minutes(1)).await;
    }
    assert_eq!(scene.status(id).await, "pending");
}

#[tokio::test]
async fn a_pending_run_is_cancelled_at_once() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.enqueue("mail").await;
    assert_eq!(scene.value::<String>(format!("select watchbell.cancel({id}, 'no need')")).await, "cancelled");
    assert_eq!(scene.status(id).await, "cancelled");
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    assert_eq!(scene.value::<String>(format!("select watchbell.cancel({id})")).await, "finished");
}

#[tokio::test]
async fn a_request_to_cancel_reaches_the_worker_that_has_the_run_and_no_other() {
    let mut scene = Scene::new().await;
    let (mut a, b) = (scene.worker("a", &["mail"]).await, scene.worker("b", &["mail"]).await);
    let id = scene.enqueue("mail").await;
    let claimed = scene.claim_one(&mut a).await;
    assert_eq!(scene.value::<String>(format!("select watchbell.cancel({id}, 'no need')")).await, "requested");
    assert!(scene.renew(&a).await.unwrap().requests);
    assert_eq!(requests(&mut scene.sql, b.id()).await.unwrap(), Asked::default());
    let asked = requests(&mut scene.sql, a.id()).await.unwrap();
    let login: String = scene.value("select session_user::text").await;
    let why = format!("cancelled by {login}: no need");
    assert_eq!(asked, Asked { cancel: vec![(id, why.clone())], ..Asked::default() });
    assert_eq!(requests(&mut scene.sql, a.id()).await.unwrap(), Asked::default(), "told once");
    scene.end(&claimed, Event::Cancelled { reason: why.clone() }).await;
    let run = scene.run(id).await;
    assert_eq!((run.status.as_str(), run.error), ("cancelled", Some(why)));
}

#[tokio::test]
async fn a_request_to_cancel_a_run_that_went_back_meanwhile_cancels_it() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.enqueue("mail").await;
    let claimed = scene.claim_one(&mut a).await;
    scene.psql(format!("select watchbell.cancel({id}, 'no need')")).await;
    scene.end(&claimed, failure()).await;
    assert_eq!(requests(&mut scene.sql, a.id()).await.unwrap(), Asked::default());
    assert_eq!(scene.status(id).await, "cancelled");
}

#[tokio::test]
async fn a_drain_is_asked_of_one_worker() {
    let mut scene = Scene::new().await;
    let (a, b) = (scene.worker("a", &["mail"]).await, scene.worker("b", &["mail"]).await);
    let ask = "insert into watchbell.worker_requests (request, worker_id) values";
    scene.psql(format!("{ask} ('drain', {})", a.id())).await;
    assert!(!requests(&mut scene.sql, b.id()).await.unwrap().drain);
    assert!(requests(&mut scene.sql, a.id()).await.unwrap().drain);
}

#[tokio::test]
async fn a_schedule_that_failed_often_enough_in_a_row_is_paused() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("shaky", "fixed_rate, max_attempts, pause_after_failures", "'1 min', 1, 3").await;
    scene.fire().await;
    for ok in [false, false, true, false, false, false] {
        assert_eq!(scene.schedule_row(id).await.paused_at, None);
        scene.advance(TimeDelta::minutes(1)).await;
        scene.fire().await;
        let run = scene.claim_one(&mut a).await;
        scene.end(&run, if ok { Event::Succeeded } else { failure() }).await;
    }
    let row = scene.schedule_row(id).await;
    assert_eq!((row.consecutive_failures, row.paused_at), (3, Some(scene.now())));
    scene.advance(TimeDelta::minutes(5)).await;
    assert_eq!(scene.fire().await.schedules, 0);
}

#[tokio::test]
async fn one_batch_counts_the_failures_of_a_schedule_from_its_last_success() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let columns = "fixed_rate, max_attempts, misfire, first_fire";
    let id = scene.schedule("busy", columns, "'1 min', 1, 'catch_up', 'at_once'").await;
    scene.advance(TimeDelta::minutes(4)).await;
    assert_eq!(scene.fire().await.runs, 5);
    let runs: Vec<Claimed> = scene.claim(&mut a, 10).await;
    let events = [failure(), Event::Succeeded, failure(), failure(), failure()];
    let mut ends: Vec<_> = runs.iter().zip(events).collect();
    ends.sort_by_key(|(run, _)| run.id);
    assert_eq!(scene.finish(&ends).await.accepted.len(), 5);
    let row = scene.schedule_row(id).await;
    assert_eq!((row.consecutive_failures, row.last_status.as_deref()), (3, Some("failed")));
}

#[tokio::test]
async fn a_batch_that_names_a_run_twice_records_it_once() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.enqueue("mail").await;
    let run = scene.claim_one(&mut a).await;
    let twice = vec![verdict(&run, Event::Succeeded), verdict(&run, Event::Succeeded)];
    let recorded = scene.record(twice).await;
    assert_eq!(recorded.accepted.len(), 1);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs_finished").await, 1);
}

#[tokio::test]
async fn a_batch_of_many_schedules_reads_each_of_them_a_few_times() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene
        .psql(
            "insert into watchbell.schedules (name, handler, run_at) \
             select 's' || i, 'mail', watchbell.clock() from generate_series(1, 200) i",
        )
        .await;
    assert_eq!(scene.fire().await.runs, 200);
    let batch: Vec<_> = scene.claim(&mut a, 200).await.iter().map(|run| verdict(run, Event::Succeeded)).collect();
    let now = scene.now();
    let mut tx = scene.sql.begin().await.unwrap();
    assert_eq!(finish(&mut tx, batch, Some(now)).await.unwrap().accepted.len(), 200);
    let read = "select seq_tup_read + coalesce(idx_scan, 0) from pg_stat_xact_user_tables \
                where schemaname = 'watchbell' and relname = 'schedules'";
    let read: i64 = sqlx::query_scalar(read).fetch_one(&mut *tx).await.unwrap();
    assert!((200..2_000).contains(&read), "{read} reads of 200 rows");
}

//! The end of a run is told to whoever asked for it, in the transaction that records it.

use std::time::Duration;

use axum::extract::Json;
use axum::routing::post;
use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use watchbell::client::{NewRun, NewSchedule};
use watchbell::handler::http::Http;
use watchbell::run::transition::Event;
use watchbell::schedule::Overlap;

use crate::support::crew::{hand, start};
use crate::support::scene::failure;
use crate::support::{Database, Scene};

const URL: &str = "https://example.org/done";

#[tokio::test]
async fn every_end_brings_one_callback_and_no_retry_does() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let ends = [Event::Succeeded, Event::Cancelled { reason: "asked".into() }, Event::Fatal { message: "no".into() }];
    for (n, event) in (1_i64..).zip(ends) {
        let wanted = scene.new_run("mail").callback_url("https://example.org/done");
        let id = scene.insert(wanted).await;
        let run = scene.claim_one(&mut a).await;
        scene.end(&run, event).await;
        let body: Value = scene
            .value(
                "select payload->'body' from watchbell.runs_live where trigger = 'callback' order by id desc limit 1",
            )
            .await;
        assert_eq!(body["run_id"], id);
        assert_eq!(body["status"], scene.status(id).await);
        let callbacks = "select count(*) from watchbell.runs where handler = 'http' and queue = 'callbacks'";
        assert_eq!(scene.value::<i64>(callbacks).await, n);
    }
    let wanted = scene.new_run("mail").callback_url("https://example.org/done");
    let id = scene.insert(wanted).await;
    let run = scene.claim_one(&mut a).await;
    scene.end(&run, failure()).await;
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs where trigger = 'callback'").await, 3);
    scene.psql(format!("select watchbell.cancel({id})")).await;
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs where trigger = 'callback'").await, 4);
    assert_eq!(
        scene
            .value::<i64>("select count(*) from watchbell.runs where trigger = 'callback' and callback_url is not null")
            .await,
        0
    );
}

/// Status and attempt in the youngest callback.
async fn told(scene: &mut Scene) -> (String, i64) {
    let body: Value = scene
        .value("select payload->'body' from watchbell.runs_live where trigger = 'callback' order by id desc limit 1")
        .await;
    (body["status"].as_str().unwrap().to_owned(), body["run_id"].as_i64().unwrap())
}

#[tokio::test]
async fn ends_without_a_verdict_of_a_handler_bring_a_callback_too() {
    let mut scene = Scene::new().await;
    scene.psql("insert into watchbell.queues (name, max_running) values ('q', 1)").await;
    let mut a = scene.present_worker("a", &["mail"]).await;
    let b = scene.present_worker("b", &["none"]).await;
    let wanted = scene.new_run("mail").queue("q").callback_url(URL);

    let id = scene.insert(wanted.clone()).await;
    let run = scene.claim_one(&mut a).await;
    let finish = format!("select watchbell.finish_run({id}, {}, {})", run.fence, run.claimed_by);
    assert!(scene.value::<bool>(finish).await);
    assert_eq!(told(&mut scene).await, ("normal".to_owned(), id));

    let id = scene.insert(wanted.clone()).await;
    let run = scene.claim_one(&mut a).await;
    scene.end(&run, Event::Expired).await;
    assert_eq!(told(&mut scene).await, ("cancelled".to_owned(), id));

    let id = scene.insert(wanted.clone().max_attempts(1)).await;
    let run = scene.claim_one(&mut a).await;
    assert_eq!((run.id, scene.claim(&mut a, 1).await.len()), (id, 0));
    scene.kill(&mut a).await;
    scene.advance(TimeDelta::minutes(1)).await;
    scene.rescue(&b).await;
    assert_eq!(told(&mut scene).await, ("failed".to_owned(), id));
    assert_eq!(scene.value::<i32>("select running from watchbell.limits where key = 'queue:q'").await, 0);
}

#[tokio::test]
async fn a_limited_run_of_a_dead_worker_is_started_again_within_the_limit() {
    let mut scene = Scene::new().await;
    scene.psql("insert into watchbell.queues (name, max_running) values ('q', 2)").await;
    scene.enqueue_many("handler, queue", "'mail', 'q' from generate_series(1, 5) i").await;
    let mut a = scene.present_worker("a", &["mail"]).await;
    let mut b = scene.present_worker("b", &["mail"]).await;
    let lost: Vec<i64> = scene.claim(&mut a, 5).await.iter().map(|run| run.id).collect();
    assert_eq!((lost.len(), scene.claim(&mut b, 5).await.len()), (2, 0));
    scene.kill(&mut a).await;
    scene.advance(TimeDelta::minutes(1)).await;
    scene.rescue(&b).await;
    let again: Vec<i64> = scene.claim(&mut b, 5).await.iter().map(|run| run.id).collect();
    assert_eq!(again, lost);
}

#[tokio::test]
async fn runs_of_a_schedule_and_retries_have_the_callback_of_their_origin() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let schedule = NewSchedule::fixed_rate("s", Duration::from_secs(60), "mail")
        .overlap(Overlap::QueueAll)
        .queue("q")
        .callback_url(URL)
        .notify_channel("c");
    schedule.insert(&mut scene.sql).await.unwrap();
    scene.psql("insert into watchbell.queues (name, max_running) values ('q', 5) on conflict (name) do update set max_running = 5").await;
    scene.fire().await;
    scene.advance(TimeDelta::seconds(61)).await;
    scene.fire().await;
    let run = scene.claim_one(&mut a).await;
    assert_eq!(run.concurrency_key.as_deref(), Some("queue:q"));
    scene.end(&run, Event::Succeeded).await;
    assert_eq!(told(&mut scene).await, ("normal".to_owned(), run.id));

    scene.psql(format!("select watchbell.run_now('s'), watchbell.retry({})", run.id)).await;
    let origins = "select string_agg(concat_ws(' ', trigger, callback_url, notify_channel, concurrency_key = 'schedule:' || schedule_id), ', ' order by id) \
                   from watchbell.runs where status = 'pending' and schedule_name = 's'";
    assert_eq!(
        scene.value::<String>(origins).await,
        format!("run_now {URL} c t, retry {URL} c t"),
        "and the key of the schedule, not that of the queue"
    );
    let by_function = "select callback_url || notify_channel from watchbell.runs where id = \
                       watchbell.enqueue('mail', callback_url => 'http://x/', notify_channel => 'd')";
    let _: Option<String> = scene.value(format!("select ({by_function})")).await;
    assert_eq!(
        scene
            .value::<String>("select callback_url || notify_channel from watchbell.runs where notify_channel = 'd'")
            .await,
        "http://x/d"
    );
    let declared: i64 = scene
        .value("select watchbell.schedule('t', 'mail', cron => '@daily', callback_url => 'http://y/', notify_channel => 'e')")
        .await;
    let stored = format!("select callback_url || notify_channel from watchbell.schedules where id = {declared}");
    assert_eq!(scene.value::<String>(stored).await, "http://y/e");
}

#[tokio::test]
async fn a_callback_arrives_at_a_real_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, mut calls) = mpsc::unbounded_channel();
    let router = axum::Router::new().route(
        "/done",
        post(move |Json(body): Json<Value>| {
            let seen = seen.clone();
            async move { seen.send(body).unwrap() }
        }),
    );
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let database = Database::fresh().await;
    let worker = hand(&database.pool, "a")
        .handler("http", Http::new().allow(format!("127.0.0.1:{port}").parse().unwrap()))
        .handler("mail", async || Ok::<(), watchbell::Error>(()));
    let worker = start(worker);
    let wanted = NewRun::new("mail").callback_url(format!("http://127.0.0.1:{port}/done")).tags(["night"]);
    let id = wanted.insert(&database.pool).await.unwrap().unwrap();
    let body = tokio::time::timeout(Duration::from_secs(30), calls.recv()).await.unwrap().unwrap();
    assert_eq!((&body["run_id"], &body["status"], &body["attempt"]), (&json!(id.0), &json!("normal"), &json!(1)));
    assert_eq!((&body["handler"], &body["tags"], &body["error"]), (&json!("mail"), &json!(["night"]), &Value::Null));
    worker.stop().await;
    server.abort();
}

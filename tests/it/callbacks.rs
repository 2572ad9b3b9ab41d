//! The end of a run is told to whoever asked for it, in the transaction that records it.

use serde_json::Value;
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::scene::failure;

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

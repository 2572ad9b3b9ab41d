//! `watchbell workers`: who is there, and how to let them go.

use std::time::Duration;

use serde_json::Value;

use crate::cli::{Ended, done, refused, run};
use crate::support::commands::Program;
use crate::support::wait::until_true;
use crate::support::{Database, Scene};

#[tokio::test]
async fn workers_are_listed_and_shown_by_number_and_name() {
    let mut scene = Scene::new().await;
    let url = scene.database.url.clone();
    let one = scene.worker("one", &["mail"]).await;
    scene.worker("two", &["mail", "report"]).await;
    scene.worker("two", &["mail"]).await;
    let rows = done(&url, &["workers", "list"]);
    assert_eq!(rows.lines().count(), 4, "{rows}");
    let shown: Value = serde_json::from_str(&done(&url, &["workers", "show", "one", "--json"])).unwrap();
    assert_eq!((&shown["id"], &shown["handlers"][0]), (&one.id().into(), &"mail".into()));
    let text = done(&url, &["workers", "show", &one.id().to_string()]);
    assert!(text.starts_with(&format!("worker {} one\n", one.id())), "{text}");
    let (code, stderr) = refused(Some(&url), &["workers", "show", "two"]);
    assert_eq!(code, 4);
    assert!(stderr.starts_with("error: 2 workers are named \"two\": say which by number, "), "{stderr}");
    let (code, stderr) = refused(Some(&url), &["workers", "drain", "ome"]);
    assert_eq!((code, stderr.as_str()), (3, "error: worker \"ome\" does not exist; did you mean \"one\"?"));
    assert_eq!(refused(Some(&url), &["workers", "show", "987654"]).0, 3);
}

#[tokio::test]
async fn a_drain_that_was_not_seen_yet_is_taken_back() {
    let mut scene = Scene::new().await;
    let url = scene.database.url.clone();
    scene.worker("one", &["mail"]).await;
    let asked = run(Some(&url), &["workers", "drain", "one", "--wait", "--wait-timeout", "0s"]);
    assert_eq!(asked.0, 124, "{}", asked.2);
    let state = done(&url, &["workers", "show", "one"]);
    assert!(state.contains("asked to drain"), "{state}");
    let Ended(code, _, stderr) = run(Some(&url), &["workers", "undrain", "one"]);
    assert_eq!(code, 0);
    assert!(stderr.ends_with("(one) goes on\n"), "{stderr}");
    let Ended(_, _, stderr) = run(Some(&url), &["workers", "undrain", "one"]);
    assert!(stderr.ends_with("(one) was not asked to drain\n"), "{stderr}");
}

#[tokio::test]
async fn draining_waits_until_the_worker_has_stopped() {
    let database = Database::fresh().await;
    let mut worker = Program::worker(&database.url, &["--name", "one", "--enable-sql"]);
    let is_there = "exists (select from watchbell.workers where name = 'one' and state = 'running')";
    until_true(&database.pool, is_there, Duration::from_secs(20)).await;
    let Ended(code, stdout, stderr) = run(Some(&database.url), &["workers", "drain", "one", "--wait"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("\tone\t"), "{stdout}");
    assert!(stderr.contains(" is stopped\n"), "{stderr}");
    assert_eq!(done(&database.url, &["workers", "list", "-o", "name"]), "");
    crate::support::wait::until("the process ends", Duration::from_secs(20), async || worker.has_ended().then_some(()))
        .await;
}

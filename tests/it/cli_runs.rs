//! `watchbell runs wait` and `retry`: what a script can rely on.

use serde_json::Value;

use crate::cli::{Ended, done, execute, refused, run};
use crate::support::{Database, Scene};
use watchbell::run::transition::Event;

/// Runs of this handler that have ended as failed; answers their numbers.
async fn failures(scene: &mut Scene, handler: &str, n: usize) -> Vec<String> {
    let mut worker = scene.worker(&format!("w-{handler}"), &[handler]).await;
    let mut ids = vec![];
    for _ in 0..n {
        let id = scene.enqueue(handler).await;
        let claimed = scene.claim_one(&mut worker).await;
        scene.end(&claimed, Event::Fatal { message: "the disk is full".to_owned() }).await;
        ids.push(id.to_string());
    }
    ids
}

#[tokio::test]
async fn waiting_for_several_ends_with_the_worst_of_them() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    let ids: Vec<String> = (0..2).map(|_| done(url, &["enqueue", "mail"]).trim().to_owned()).collect();
    let Ended(code, _, stderr) = run(Some(url), &["runs", "wait", &ids[0], &ids[1], "--timeout", "0s"]);
    assert_eq!((code, stderr), (124, format!("run {} is pending still; stopped waiting\n", ids[0])));
    done(url, &["runs", "cancel", &ids[0], &ids[1]]);
    let Ended(code, _, stderr) = run(Some(url), &["runs", "wait", &ids[0], &ids[1]]);
    assert_eq!(code, 1);
    assert_eq!(stderr.matches("ended as cancelled").count(), 2, "{stderr}");
    assert_eq!(refused(Some(url), &["runs", "wait", "987654"]).0, 3);
    let nothing = done(url, &["runs", "list", "--status", "running", "-o", "name"]);
    assert_eq!(nothing, "");
}

#[tokio::test]
async fn what_failed_is_tried_again_by_number_or_all_of_it() {
    let mut scene = Scene::new().await;
    let url = scene.database.url.clone();
    let mails = failures(&mut scene, "mail", 3).await;
    let reports = failures(&mut scene, "report", 1).await;
    let retried: Value = serde_json::from_str(&done(&url, &["runs", "retry", &mails[0], "--json"])).unwrap();
    assert_eq!(retried[0]["retry_of"].to_string(), mails[0]);
    let Ended(code, stdout, stderr) = run(Some(&url), &["runs", "retry", &mails[0], "987654"]);
    assert_eq!(code, 3, "{stderr}");
    assert_eq!(stdout, format!("ID\tRETRY OF\n{}\t{}\n", retried[0]["id"], mails[0]), "the one that is open already");

    // at noon of today, whatever the hour is now
    let all = ["runs", "retry", "--all", "--handler", "mail", "--since", "13h"];
    let with = |more: &'static str| [&all[..], &[more]].concat();
    let would: Vec<String> =
        done(&url, &[&with("--dry-run")[..], &["-o", "name"]].concat()).lines().map(str::to_owned).collect();
    assert_eq!(would, mails[1..]);
    let (code, stderr) = refused(Some(&url), &all);
    assert_eq!(code, 2);
    assert!(stderr.contains("this would try 2 failed runs again in postgres://"), "{stderr}");
    assert_eq!(done(&url, &with("--yes")), "2\n");
    assert_eq!(done(&url, &with("--yes")), "0\n", "each is tried again once");
    assert_eq!(done(&url, &["runs", "retry", "--all", "--dry-run", "-o", "name"]).trim(), reports[0]);
    assert_eq!(refused(Some(&url), &["runs", "retry", "--all", "--schedule", "none", "--yes"]).0, 3);
    assert_eq!(refused(Some(&url), &["runs", "retry", "--handler", "mail"]).0, 2, "--all is to be said");
}

#[tokio::test]
async fn a_run_that_is_open_is_not_tried_again() {
    let database = Database::fresh().await;
    execute(&database, "insert into watchbell.handlers (name) values ('mail')").await;
    let id = done(&database.url, &["enqueue", "mail"]);
    let (code, stderr) = {
        let Ended(code, _, stderr) = run(Some(&database.url), &["runs", "retry", id.trim()]);
        (code, stderr)
    };
    assert_eq!(code, 4, "{stderr}");
}

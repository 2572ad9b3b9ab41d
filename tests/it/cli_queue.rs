//! `watchbell queue` and `handlers`: what waits, where and for whom.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::cli::{Ended, done, execute, refused, run, shown, watchbell};
use crate::support::{Database, Scene};

#[tokio::test]
async fn queues_are_listed_with_what_waits_in_them() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    done(url, &["enqueue", "mail", "--queue", "bulk", "--concurrency-key", "smtp"]);
    done(url, &["enqueue", "mail", "--queue", "bulk", "--in", "1h"]);
    let table = done(url, &["queue", "list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0].join(" "), "NAME PENDING LATER RUNNING OLDEST PAUSED BY NOTE");
    assert_eq!(rows[1][..4], ["bulk", "1", "1", "0"]);
    assert!(rows[1][4].ends_with('s'), "how long the oldest waits: {table}");
    assert_eq!(rows[2][..5], ["callbacks", "0", "0", "0", ""]);
    assert_eq!(rows[3][..5], ["default", "0", "0", "0", ""]);
    assert_eq!(done(url, &["queue", "limits"]), "KEY\tRUNNING\tLIMIT\nsmtp\t0\t1\n");
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    let Ended(code, stdout, stderr) = run(Some(url), &["queue", "pause", "mail", "--note", "the provider is down"]);
    assert_eq!((code, stdout.as_str()), (0, "mail\n"));
    assert_eq!(
        stderr,
        format!("{}: queue \"mail\" is paused; resume it with: watchbell queue resume mail\n", shown(url))
    );
    let list = done(url, &["queue", "list"]);
    assert!(list.contains("the provider is down"), "{list}");
    done(url, &["queue", "resume", "mail"]);
    assert!(!done(url, &["queue", "list"]).contains("the provider is down"));
    let (code, stderr) = refused(Some(url), &["queue", "resume", "mial"]);
    assert_eq!((code, stderr.as_str()), (3, "error: queue \"mial\" does not exist; did you mean \"mail\"?"));
}

#[tokio::test]
async fn handlers_tell_who_serves_them_and_what_waits_for_nobody() {
    let mut scene = Scene::new().await;
    let url = scene.database.url.clone();
    scene.worker("one", &["mail", "report"]).await;
    scene.worker("two", &["mail"]).await;
    done(&url, &["enqueue", "mial"]);
    done(&url, &["schedule", "add", "x", "report", "--every", "5m"]);
    let table = done(&url, &["handlers", "list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0].join(" "), "NAME WORKERS SCHEDULES WAITING OLDEST LAST SEEN REMARK");
    assert_eq!(rows[1][..4], ["mail", "one,two", "0", "0"]);
    assert_eq!(rows[2][..4], ["mial", "", "0", "1"]);
    assert_eq!(rows[2][6], "no worker has ever registered it");
    assert_eq!(rows[3][..4], ["report", "one", "1", "0"]);
    assert_eq!(done(&url, &["handlers", "list", "--unserved", "-o", "name"]), "mial\n");
}

#[tokio::test]
async fn a_watched_list_comes_again_until_nobody_reads_it() {
    let database = Database::fresh().await;
    execute(&database, "insert into watchbell.queues (name) values ('bulk')").await;
    let mut watching = watchbell(Some(&database.url), &["queue", "list", "-o", "name", "--watch=1s"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let seen: Vec<String> = lines.by_ref().take(6).map(Result::unwrap).collect();
    assert_eq!(seen, ["bulk", "callbacks", "default", "bulk", "callbacks", "default"]);
    drop(lines);
    assert!(watching.wait().unwrap().success());
    assert_eq!(refused(None, &["queue", "list", "--watch=0s"]).0, 2);
}

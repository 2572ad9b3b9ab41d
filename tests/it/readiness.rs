//! `/healthz` and `/readyz` tell whether the process lives, and whether its worker can do its work.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use watchbell::embedded::Halt;

use crate::support::ask::{insert, until_status};
use crate::support::commands::Program;
use crate::support::crew::hand;
use crate::support::database::install;
use crate::support::pages::{Scrape, free_address, get};
use crate::support::wait::until;
use crate::support::{Database, private_server};

const SOON: Duration = Duration::from_secs(60);

/// Waits for this status; answers what was said with it.
async fn until_ready_is(address: &str, expected: u16) -> (String, Duration) {
    let look = async || get(address, "/readyz", "*/*").await.filter(|(status, _)| *status == expected);
    let ((_, said), took) = until(&format!("/readyz answers {expected}"), SOON, look).await;
    (said, took)
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_database_while_the_process_lives() {
    let Some(mut server) = private_server().await else { return };
    let url = server.url().to_owned();
    install(&url).await;
    let address = free_address();
    let mut worker = Program::worker(&url, &["--enable-sql", "--listen", &address]);
    let (said, _) = until_ready_is(&address, 200).await;
    for check in ["ok   database: ", "ok   schema: ", "ok   polling: "] {
        assert!(said.contains(check), "{said}");
    }
    for halt in [Halt::Immediate, Halt::Fast] {
        server.halt(halt).await.unwrap();
        let lost = Instant::now();
        until_ready_is(&address, 503).await;
        let noticed = lost.elapsed();
        let named =
            async || get(&address, "/readyz", "*/*").await.filter(|(_, said)| said.contains("FAIL database: last"));
        let ((_, said), _) = until("the database is named", SOON, named).await;
        println!("not ready after {noticed:?}, the database named after {:?}:\n{said}", lost.elapsed());
        assert!(lost.elapsed() < Duration::from_secs(10), "{:?}", lost.elapsed());
        assert_eq!(get(&address, "/healthz", "*/*").await, Some((200, "ok\n".to_owned())));
        let (status, said) = get(&address, "/readyz", "application/json").await.unwrap();
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((status, &json["ready"], &json["checks"][0]["ok"]), (503, &false.into(), &false.into()), "{said}");
        // what it counted itself is there all the same, the failures among them
        let failing = async || Scrape::of(&address).await.filter(|s| s.sum("watchbell_db_errors_total", "") > 0.0);
        until("errors are counted", SOON, failing).await;
        assert!(!worker.has_ended());
        server.resume().await.unwrap();
        let (_, back) = until_ready_is(&address, 200).await;
        println!("ready again after {back:?}");
    }
    worker.send(Signal::SIGTERM);
    until("it ends", SOON, async || worker.has_ended().then_some(())).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_is_not_ready_and_says_so() {
    let database = Database::fresh().await;
    let address = free_address();
    let mut worker = Program::worker(&database.url, &["--enable-sql", "--listen", &address]);
    until_ready_is(&address, 200).await;
    let payload = [("payload", "'{\"statement\": \"select pg_sleep(3)\"}'")];
    let run = insert(&database.pool, "sql", &payload).await;
    until_status(&database.pool, run, "running", SOON).await;
    worker.send(Signal::SIGTERM);
    let (said, _) = until_ready_is(&address, 503).await;
    assert!(said.contains("FAIL polling: draining"), "{said}");
    until("it ends", SOON, async || worker.has_ended().then_some(())).await;
    until_status(&database.pool, run, "normal", SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_or_open_to_others_is_refused_at_the_start() {
    let database = Database::fresh().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = (taken.local_addr().unwrap().to_string(), taken);
    for (arguments, code, expected) in [
        (vec!["--listen", taken.0.as_str()], 1, "cannot listen on 127.0.0.1:"),
        (vec!["--listen", "0.0.0.0:0"], 2, "give --listen-public too if that is meant"),
        (vec!["--listen", "8077"], 2, "must be an address and a port such as 127.0.0.1:8077"),
    ] {
        let all = [vec!["worker", "run", "--enable-sql", "--config", "none"], arguments].concat();
        let crate::cli::Ended(ended, _, said) = crate::cli::run(Some(&database.url), &all);
        assert!(said.contains(expected), "{said}");
        assert_eq!(ended, code, "{said}");
    }
    let address = free_address();
    let once = ["worker", "run", "--enable-sql", "--config", "none", "--once", "--listen", &address];
    let crate::cli::Ended(ended, _, said) = crate::cli::run(Some(&database.url), &once);
    assert_eq!(ended, 0, "{said}");
    let unknown = get(&address, "/", "*/*").await;
    assert_eq!(unknown, None, "the port outlives its worker");
}

#[tokio::test]
async fn a_library_user_asks_the_handle_or_a_health_that_outlives_it() {
    let database = Database::fresh().await;
    let builder = hand(&database.pool, "ready").handler("report", async || {});
    let health = builder.health();
    assert_eq!(health.ready().to_string(), "FAIL worker: starting\n");
    let worker = builder.start().await.unwrap();
    until("it is ready", SOON, async || worker.ready().is_ready().then_some(())).await;
    assert!(health.ready().is_ready());
    let names: Vec<_> = worker.ready().checks.iter().map(|check| check.name).collect();
    assert_eq!(names, ["database", "schema", "polling"]);
    worker.shutdown();
    worker.join().await.unwrap();
    assert_eq!(health.ready().to_string(), "FAIL worker: stopped\n");
}

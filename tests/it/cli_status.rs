//! `watchbell status`: one screen, and exit code 0 only when nothing needs a person.

use std::time::Duration;

use serde_json::Value;
use sqlx::Connection;
use watchbell::client;

use crate::cli::{Ended, done, execute, run, shown};
use crate::support::commands::Program;
use crate::support::wait::until_true;
use crate::support::{Database, ask};

#[tokio::test]
async fn status_is_0_with_nothing_to_do_and_1_with_the_command_that_mends_it() {
    let database = Database::fresh().await;
    let url = &database.url;
    let Ended(code, stdout, stderr) = run(Some(url), &["status"]);
    assert_eq!((code, stderr.as_str()), (1, ""));
    assert!(stdout.starts_with(&shown(url)), "{stdout}");
    assert!(
        stdout.ends_with("    no live worker: nothing fires and nothing runs\n    $ watchbell worker run\n"),
        "{stdout}"
    );

    let _worker = Program::worker(url, &["--name", "one", "--enable-sql"]);
    let is_there = "exists (select from watchbell.workers where name = 'one' and schema_version is not null)";
    until_true(&database.pool, is_there, Duration::from_secs(20)).await;
    let quiet = done(url, &["status"]);
    assert!(quiet.contains("\nWorkers: 1 alive, 0 of 100 slots taken\n"), "{quiet}");
    assert!(quiet.ends_with("\nNothing needs attention\n"), "{quiet}");

    execute(
        &database,
        "insert into watchbell.schedules (name, fixed_rate, handler, payload)
                        values ('beat', '1 h', 'sql', '{\"statement\": \"select 1\"}')",
    )
    .await;
    let fails =
        ask::insert(&database.pool, "sql", &[("payload", "'{\"statement\": \"select 1/0\"}'"), ("max_attempts", "1")]);
    let failed = fails.await;
    ask::insert(&database.pool, "sql", &[("payload", "'{\"statement\": \"select pg_sleep(60)\"}'")]).await;
    let settled = "(select count(distinct status) from watchbell.runs where status in ('running', 'failed')) = 2
                   and exists (select from watchbell.upcoming)";
    until_true(&database.pool, settled, Duration::from_secs(20)).await;
    execute(&database, "update watchbell.schedules set consecutive_failures = 3").await;
    let Ended(code, stdout, _) = run(Some(url), &["status"]);
    assert_eq!(code, 1);
    for part in
        ["\nQueues: 1 idle\n", "\nNext fires\n", "\tsql\n", "\nRunning\n", "\nLast failures\n", "division by zero"]
    {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(stdout.contains("\nNeeds attention: 1\n  critical failing: schedule beat, since "), "{stdout}");
    assert!(stdout.ends_with("\n    $ watchbell runs list --schedule beat --status failed\n"), "{stdout}");

    let Ended(code, stdout, _) = run(Some(url), &["status", "--json"]);
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["workers"][0]["name"], "one");
    assert_eq!(report["queues"][1]["running"], 1);
    assert_eq!(report["upcoming"][0]["name"], "beat");
    assert_eq!(report["running"][0]["worker"], "one");
    assert_eq!(report["failures"][0]["id"], failed);
    assert_eq!(report["attention"][0]["severity"], "critical");
    assert_eq!(report["schema_version"], watchbell::migrate::VERSION);
}

#[tokio::test]
async fn status_is_read_at_one_moment_and_changes_nothing() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let report = client::status(&mut connection).await.unwrap();
    assert_eq!(report.attention.len(), 1);
    let mut tx = connection.begin().await.unwrap();
    assert!(client::status(&mut tx).await.is_err(), "inside another transaction it would not be one moment");
    tx.rollback().await.unwrap();
    client::status(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_worker_tells_its_schema_its_retention_its_clock_and_the_end_of_its_drain() {
    let database = Database::fresh().await;
    let mut worker = Program::worker(&database.url, &["--name", "one", "--enable-sql", "--retention", "2d"]);
    let told = format!(
        "exists (select from watchbell.workers where schema_version = {} and retention = interval '2 days'
                 and clock_skew between '-1 s' and '1 s' and draining_until is null)",
        watchbell::migrate::VERSION
    );
    until_true(&database.pool, &told, Duration::from_secs(20)).await;
    ask::insert(&database.pool, "sql", &[("payload", "'{\"statement\": \"select pg_sleep(60)\"}'")]).await;
    until_true(&database.pool, "exists (select from watchbell.running)", Duration::from_secs(20)).await;
    worker.send(nix::sys::signal::Signal::SIGTERM);
    let drains = "exists (select from watchbell.workers where state = 'draining'
                          and draining_until between now() + interval '170 s' and now() + interval '185 s')";
    until_true(&database.pool, drains, Duration::from_secs(20)).await;
    worker.send(nix::sys::signal::Signal::SIGINT);
    let ends = async || worker.has_ended().then_some(());
    crate::support::wait::until("the process ends", Duration::from_secs(20), ends).await;
}

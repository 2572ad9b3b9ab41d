//! A row wakes workers that sleep, and costs nothing when none does.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgListener;

use crate::support::Database;

/// Someone listens; `asleep` says whether they want to be woken.
async fn listening(database: &Database, asleep: bool) -> PgListener {
    let mut listener = PgListener::connect(&database.url).await.unwrap();
    listener.listen("watchbell").await.unwrap();
    if asleep {
        run(database, "update watchbell.queues set sleepers_until = now() + '1 hour'").await;
    }
    listener
}

async fn run(database: &Database, statement: &str) {
    let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&database.pool).await;
    done.unwrap_or_else(|e| panic!("{statement}: {e}"));
}

/// Every notification so far. A NOTIFY of our own marks the end: they arrive in the order of their commits.
async fn heard(database: &Database, listener: &mut PgListener) -> Vec<String> {
    run(database, "select pg_notify('watchbell', 'end')").await;
    let mut payloads = Vec::new();
    loop {
        let notification = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await.unwrap().unwrap();
        if notification.payload() == "end" {
            return payloads;
        }
        payloads.push(notification.payload().to_owned());
    }
}

#[tokio::test]
async fn nobody_is_told_while_nobody_sleeps() {
    let database = Database::fresh().await;
    let mut listener = listening(&database, false).await;
    run(&database, "insert into watchbell.runs (handler) values ('h')").await;
    run(&database, "insert into watchbell.schedules (name, cron, handler) values ('s', '@daily', 'h')").await;
    run(&database, "update watchbell.queues set sleepers_until = now() - interval '1 ms'").await;
    run(&database, "insert into watchbell.runs (handler) values ('h')").await;
    assert_eq!(heard(&database, &mut listener).await, [""; 0]);
}

#[tokio::test]
async fn sleepers_are_told_which_table_got_a_row() {
    let database = Database::fresh().await;
    let mut listener = listening(&database, true).await;
    run(&database, "insert into watchbell.runs (handler) values ('h')").await;
    run(&database, "insert into watchbell.runs_live (handler) values ('h')").await;
    run(&database, "insert into watchbell.schedules (name, cron, handler) values ('s', '@daily', 'h')").await;
    assert_eq!(heard(&database, &mut listener).await, ["runs", "runs", "schedules"]);
}

#[tokio::test]
async fn a_transaction_tells_once_however_many_rows_it_adds() {
    let database = Database::fresh().await;
    let mut listener = listening(&database, true).await;
    run(&database, "insert into watchbell.runs (handler) select 'h' from generate_series(1, 1000)").await;
    assert_eq!(heard(&database, &mut listener).await, ["runs"]);
}

#[tokio::test]
async fn only_edits_that_change_the_plan_wake() {
    let database = Database::fresh().await;
    run(&database, "insert into watchbell.schedules (name, cron, handler) values ('s', '@daily', 'h')").await;
    let mut listener = listening(&database, true).await;
    for (edit, wakes) in [
        ("cron = '@hourly'", true),
        ("timezone = 'Europe/Paris'", true),
        ("paused_at = now()", true),
        ("paused_at = null", true),
        ("payload = '{\"a\": 1}'", false),
        ("wake_at = now(), status = 'normal', last_fire_at = now()", false),
    ] {
        run(&database, &format!("update watchbell.schedules set {edit}")).await;
        assert_eq!(!heard(&database, &mut listener).await.is_empty(), wakes, "{edit}");
    }
}

#[tokio::test]
async fn a_claim_and_a_finish_wake_nobody() {
    let database = Database::fresh().await;
    run(&database, "insert into watchbell.runs (handler) values ('h')").await;
    let mut listener = listening(&database, true).await;
    run(&database, "update watchbell.runs_live set status = 'running', claimed_by = 1, fence = 1").await;
    run(&database, "select watchbell.finish_run(id, 1, 1) from watchbell.runs").await;
    assert_eq!(heard(&database, &mut listener).await, [""; 0]);
}

#[tokio::test]
async fn while_one_transaction_holds_a_stripe_the_others_of_it_stay_silent() {
    let database = Database::fresh().await;
    let mut listener = listening(&database, true).await;
    // Eight stripes: among nine sessions two share one.
    let mut sessions = Vec::new();
    for _ in 0..9 {
        let mut session = database.connect().await;
        sqlx::query("begin").execute(&mut session).await.unwrap();
        sqlx::query("insert into watchbell.runs (handler) values ('h')").execute(&mut session).await.unwrap();
        sessions.push(session);
    }
    for session in &mut sessions {
        sqlx::query("commit").execute(session).await.unwrap();
    }
    let told = heard(&database, &mut listener).await.len();
    assert!((1..9).contains(&told), "{told}");
}

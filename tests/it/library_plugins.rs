//! Plug-ins: one `submit!` in any file is a job.

use std::time::Duration;

use sqlx::PgPool;
use watchbell::{State, Worker, cron, once, seconds};

use crate::support::Database;
use crate::support::ask::{insert, one, until_status};
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;

const SOON: Duration = Duration::from_secs(30);

async fn nothing() {}

/// What a new file of an application looks like.
mod nightly {
    use watchbell::{cron, submit};

    async fn report() {}

    submit!(|worker| worker.schedule("plugged-nightly", cron("0 2 * * *"), report));
}

mod others {
    use watchbell::{HandlerOptions, State};

    async fn mail(_: State<u16>) {}

    watchbell::submit! {
        |worker| worker.handler_with("plugged-mail", mail, HandlerOptions::new().max_running(3))
    }
    watchbell::submit!(|worker| worker.schedule(
        "plugged-once",
        watchbell::once(watchbell::seconds(0)),
        super::nothing
    ));
}

#[tokio::test]
async fn what_was_submitted_anywhere_runs_in_a_worker_that_asks_for_plugins() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "plugged").state(7_u16).plugins());
    let mail = insert(pool, "plugged-mail", &[]).await;
    until_status(pool, mail, "normal", SOON).await;
    let ran = "exists (select from watchbell.runs where schedule_name = 'plugged-once' and status = 'normal')";
    until_true(pool, ran, SOON).await;
    let names: String = one(pool, "select string_agg(name, ' ' order by name) from watchbell.schedules").await;
    assert_eq!(names, "plugged-nightly plugged-once");
    worker.stop().await;

    let plain = start(hand(pool, "plain").handler("other", nothing));
    until_true(pool, "exists (select from watchbell.workers where handlers = '{other}')", SOON).await;
    plain.stop().await;
}

#[tokio::test]
async fn duplicates_bad_schedules_and_missing_state_of_plugins_stop_the_start() {
    let unconnected = || Worker::builder(PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap());
    let twice = unconnected().state(7_u16).schedule("plugged-nightly", cron("@daily"), nothing).plugins();
    let sentence = twice.run(async {}).await.unwrap_err().to_string();
    let place = "handlers: handler \"plugged-nightly\" is registered twice (by tests/it/library_plugins.rs:";
    assert!(sentence.starts_with(place), "{sentence}");

    let bad = unconnected().state(7_u16).plugins().schedule("bad", cron("61 * * * *"), nothing);
    let sentence = bad.run(async {}).await.unwrap_err().to_string();
    assert_eq!(
        sentence,
        "schedule \"bad\": invalid cron expression \"61 * * * *\": minute \"61\" is out of range 0-59"
    );

    let stateless = unconnected().plugins().schedule("x", once(seconds(1)), |_: State<u16>| nothing());
    let sentence = stateless.run(async {}).await.unwrap_err().to_string();
    assert!(sentence.contains("handler \"plugged-mail\" needs state of type u16, and none was given"), "{sentence}");
}

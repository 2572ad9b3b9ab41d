//! Starting a worker: it says at once what is wrong, and nothing is silently not run.

use std::time::Duration;

use sqlx::PgPool;
use watchbell::error::SchemaMismatch;
use watchbell::worker::{Builder, Config};
use watchbell::{Error, Worker};

use crate::support::Database;
use crate::support::ask::{insert, one, row, until_status};
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;

const SOON: Duration = Duration::from_secs(30);

async fn nothing() {}

async fn refusal(worker: Builder) -> Error {
    worker.run(std::future::pending()).await.unwrap_err()
}

/// No server: what is wrong with the builder must be found before anyone connects.
fn unconnected() -> PgPool {
    PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap()
}

#[tokio::test]
async fn a_worker_that_could_run_nothing_does_not_start() {
    let error = refusal(Worker::builder(unconnected())).await;
    assert_eq!(error.to_string(), "handlers: none is registered, so this worker could not run anything");
    assert!(matches!(error, Error::Invalid { .. }));
}

#[tokio::test]
async fn handler_names_that_cannot_be_told_apart_are_all_named() {
    let worker = Worker::builder(unconnected());
    let twice = worker.handler("mail", nothing).handler("mail", nothing).handler("", nothing);
    assert_eq!(
        refusal(twice).await.to_string(),
        "handlers: handler \"mail\" is registered twice; handler name \"\" must have 1 to 128 bytes"
    );
}

#[tokio::test]
async fn an_option_out_of_bounds_is_named_with_its_bounds() {
    let mut short = Config::default();
    short.lease = Duration::from_secs(1);
    type With = fn(Builder) -> Builder;
    let options: [(With, &str); 4] = [
        (|w| w.slots(0), "slots: 0 is out of range 1 to 10000"),
        (|w| w.queues(Vec::<String>::new()), "queues: 0 is out of range 1 to 1000"),
        (|w| w.label("zone", "eu west"), "labels: \"zone=eu west\" must be key=value without blanks and commas"),
        (|w| w.drain_timeout(Duration::from_secs(86_401)), "drain_timeout: 86401s is out of range 0ns to 86400s"),
    ];
    for (with, sentence) in options {
        let worker = with(Worker::builder(unconnected()).handler("mail", nothing));
        assert_eq!(refusal(worker).await.to_string(), sentence);
    }
    let worker = Worker::builder(unconnected()).handler("mail", nothing).config(short);
    assert_eq!(refusal(worker).await.to_string(), "lease: 1s is out of range 2s to 3600s");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named() {
    let error = refusal(Worker::builder(unconnected()).handler("mail", nothing)).await;
    let sentence = error.to_string();
    assert!(sentence.starts_with("cannot connect to 127.0.0.1:1: "), "{sentence}");
    assert!(matches!(error, Error::Unreachable { .. }));
}

#[tokio::test]
async fn a_missing_schema_is_said_with_the_command_that_makes_it() {
    let database = Database::empty().await;
    let error = refusal(hand(&database.pool, "early").handler("mail", nothing)).await;
    assert!(matches!(error, Error::Schema(SchemaMismatch::Missing)));
    assert_eq!(error.to_string(), "schema watchbell does not exist in this database; run: watchbell migrate up");
}

#[tokio::test]
async fn a_run_of_an_unknown_handler_waits_for_a_worker_that_has_it() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let other = start(hand(pool, "other").handler("other", nothing));
    let rare = insert(pool, "rare", &[]).await;
    let plain = insert(pool, "other", &[]).await;
    until_status(pool, plain, "normal", SOON).await;
    let waiting = row(pool, rare).await;
    assert_eq!((waiting.status.as_str(), waiting.attempt, waiting.fence), ("pending", 0, 0));

    let able = start(hand(pool, "able").handler("rare", nothing));
    until_status(pool, rare, "normal", SOON).await;
    other.stop().await;
    able.stop().await;
}

#[tokio::test]
async fn a_worker_is_seen_in_its_row_from_start_to_stop() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "seen").handler("mail", nothing).slots(3).label("zone", "eu"));
    until_true(pool, "select state = 'running' and presence from watchbell.workers", SOON).await;
    let said: bool = one(
        pool,
        "select name = 'seen' and slots = 3 and handlers = '{mail}' and queues is null and labels @> '{zone=eu}' \
                and host <> '' and version <> '' and lease_until > now() from watchbell.workers",
    )
    .await;
    assert!(said);
    // four connections beside the pool, and no more
    let names: Vec<String> = one(
        pool,
        "select array_agg(application_name::text order by application_name) from pg_stat_activity \
         where datname = current_database() and application_name like 'watchbell %'",
    )
    .await;
    assert!(names.len() <= 4, "{names:?}");
    worker.stop().await;
    let end: (String, bool) =
        sqlx::query_as("select state, ended_at is not null from watchbell.workers").fetch_one(pool).await.unwrap();
    assert_eq!(end, ("stopped".to_owned(), true));
}

#[tokio::test]
async fn a_worker_told_to_do_what_is_due_does_it_and_ends() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let (due, later) = (insert(pool, "mail", &[]).await, insert(pool, "mail", &[("run_at", "now() + '1 h'")]).await);
    sqlx::query("insert into watchbell.schedules (name, run_at, handler) values ('once', now(), 'mail')")
        .execute(pool)
        .await
        .unwrap();
    let mut config = Config::default();
    config.once = true;
    start(Worker::builder(pool.clone()).handler("mail", nothing).config(config)).ended().await.unwrap();
    assert_eq!(row(pool, due).await.status, "normal");
    assert_eq!(row(pool, later).await.status, "pending");
    let of_schedule: i64 =
        one(pool, "select count(*) from watchbell.runs where schedule_name = 'once' and status = 'normal'").await;
    assert_eq!(of_schedule, 1);
}

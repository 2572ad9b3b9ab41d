//! What the database did and the worker did not hear of, or not yet: claims and ends whose reply is late or lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::PgPool;
use watchbell::worker::Builder;
use watchbell::{Context, Row};

use crate::support::ask::{insert, one, row, until_status};
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};
use crate::support::wire::Wire;
use crate::support::{Database, Scene};

const CLAIM_OF_RUNS: &str = "-- Claim: take due pending runs";
const FINISH_OF_RUNS: &str = "-- Finish: record what became of many runs";
const CLAIM_OF_ROWS: &str = "insert into watchbell.watch_claims as c";
const FINISH_OF_ROWS: &str = "free as materialized";

/// Well before a worker looks for what it has claimed without any reason, which it does once a minute.
const SOON: Duration = Duration::from_secs(25);

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
}

/// Who was called for what, and at which attempt.
#[derive(Debug, Clone, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    fn add(&self, worker: &str, what: i64, ctx: &Context) {
        self.0.lock().unwrap().push(format!("{worker}: {what}, attempt {}", ctx.attempt()));
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// A worker with a handler for rows and one for runs, which note their calls.
    fn hand(&self, pool: &PgPool, name: &'static str) -> Builder {
        let (rows, runs) = (self.clone(), self.clone());
        hand(pool, name)
            .handler("init", move |host: Row<Host>, ctx: Context| {
                rows.add(name, host.id, &ctx);
                async {}
            })
            .handler("mail", move |ctx: Context| {
                runs.add(name, ctx.run_id().0, &ctx);
                async {}
            })
    }
}

/// A watch over `hosts`, still empty, that workers have planned.
async fn planned(database: &Database) {
    let planned = "exists (select from watchbell.watches where status = 'normal')";
    until_true(&database.pool, planned, PATIENCE).await;
}

async fn watched() -> Scene {
    let mut scene = hosts(0).await;
    watch(&mut scene, "hosts", "table_name, handler, via_state", "'hosts', 'init', 'working'").await;
    scene
}

#[tokio::test]
async fn a_run_whose_claim_was_never_heard_of_starts_once_at_its_first_attempt() {
    let database = Database::fresh().await;
    let (wire, calls) = (Wire::to(&database).await, Calls::default());
    let worker = start(calls.hand(&wire.pool, "one"));
    // what is done every minute is not to find it
    let mut other = database.connect().await;
    sqlx::query("select pg_advisory_lock(hashtextextended('watchbell:prune', 0))").execute(&mut other).await.unwrap();
    wire.keep(CLAIM_OF_RUNS);
    let run = insert(&database.pool, "mail", &[]).await;
    wire.kept().await;
    until_true(&database.pool, "exists (select from watchbell.runs where status = 'running')", PATIENCE).await;
    assert!(calls.all().is_empty());
    wire.lose();
    let ended = until_status(&database.pool, run, "normal", PATIENCE).await;
    assert_eq!((ended.attempt, ended.crashes), (1, 0));
    assert_eq!(calls.all(), [format!("one: {run}, attempt 1")]);
    worker.stop().await;
}

#[tokio::test]
async fn the_end_of_a_run_whose_reply_is_lost_stands_and_the_worker_goes_on() {
    let database = Database::fresh().await;
    let (wire, calls) = (Wire::to(&database).await, Calls::default());
    let worker = start(calls.hand(&wire.pool, "one"));
    wire.keep(FINISH_OF_RUNS);
    let first = insert(&database.pool, "mail", &[]).await;
    wire.kept().await;
    let ended = until_status(&database.pool, first, "normal", PATIENCE).await;
    wire.lose();
    let second = insert(&database.pool, "mail", &[]).await;
    until_status(&database.pool, second, "normal", PATIENCE).await;
    worker.stop().await;
    let after = row(&database.pool, first).await;
    assert_eq!((after.status, after.finished_at), (ended.status, ended.finished_at), "sent again, it changed nothing");
    assert_eq!(calls.all(), [format!("one: {first}, attempt 1"), format!("one: {second}, attempt 1")]);
}

#[tokio::test]
async fn a_row_whose_claim_was_never_heard_of_starts_once_at_its_first_attempt() {
    let mut scene = watched().await;
    let (wire, calls) = (Wire::to(&scene.database).await, Calls::default());
    let worker = start(calls.hand(&wire.pool, "one"));
    planned(&scene.database).await;
    wire.keep(CLAIM_OF_ROWS);
    scene.psql("insert into hosts values (1)").await;
    wire.kept().await;
    until_true(&scene.database.pool, "exists (select from hosts where status = 'working')", PATIENCE).await;
    assert!(calls.all().is_empty());
    wire.lose();
    until_true(&scene.database.pool, "exists (select from hosts where status = 'normal')", SOON).await;
    worker.stop().await;
    assert_eq!(calls.all(), ["one: 1, attempt 1"]);
}

#[tokio::test]
async fn the_end_of_a_row_whose_reply_is_lost_stands_and_the_worker_goes_on() {
    let mut scene = watched().await;
    let (wire, calls) = (Wire::to(&scene.database).await, Calls::default());
    let worker = start(calls.hand(&wire.pool, "one"));
    planned(&scene.database).await;
    wire.keep(FINISH_OF_ROWS);
    scene.psql("insert into hosts values (1)").await;
    wire.kept().await;
    until_true(&scene.database.pool, "exists (select from hosts where status = 'normal')", PATIENCE).await;
    wire.lose();
    scene.psql("insert into hosts values (2)").await;
    until_true(&scene.database.pool, "(select count(*) = 2 from hosts where status = 'normal')", PATIENCE).await;
    worker.stop().await;
    assert_eq!(calls.all(), ["one: 1, attempt 1", "one: 2, attempt 1"]);
    let totals =
        "select array[sum(done), sum(retried), sum(failed), sum(changed)]::bigint[] from watchbell.watch_totals";
    assert_eq!(scene.value::<Vec<i64>>(totals).await, [2, 0, 0, 0]);
}

#[tokio::test]
async fn a_claim_whose_reply_is_under_way_is_not_given_back() {
    let mut scene = watched().await;
    let (wire, calls) = (Wire::to(&scene.database).await, Calls::default());
    let slow = start(calls.hand(&wire.pool, "slow"));
    planned(&scene.database).await;
    wire.keep(CLAIM_OF_ROWS);
    scene.psql("insert into hosts values (1)").await;
    wire.kept().await;
    let pool = scene.database.pool.clone();
    until_true(&pool, "exists (select from hosts where status = 'working')", PATIENCE).await;
    let quick = start(calls.hand(&pool, "quick"));
    // a death, upon which all look for claims that are nobody's: at once, and again a second later
    let dead = scene.worker("dead", &[]).await.id();
    let past = "presence = true, heartbeat_at = now() - interval '10 s', lease_until = now() + interval '5 s'";
    scene.psql(format!("update watchbell.workers set {past} where id = {dead}")).await;
    until_true(&pool, &format!("(select state = 'dead' from watchbell.workers where id = {dead})"), PATIENCE).await;
    let noticed: String = one(&pool, "select clock_timestamp()::text").await;
    let beats = format!(
        "(select heartbeat_at > '{noticed}'::timestamptz + interval '4 s' from watchbell.workers where name = 'slow')"
    );
    until_true(&pool, &beats, PATIENCE).await;
    wire.release();
    until_true(&pool, "exists (select from hosts where status = 'normal')", PATIENCE).await;
    quick.stop().await;
    slow.stop().await;
    assert_eq!(calls.all(), ["slow: 1, attempt 1"]);
}

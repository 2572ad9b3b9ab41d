//! Handlers that share a transaction with the end of their run: both happen, or neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::PgPool;
use tokio::sync::Notify;
use watchbell::lifecycle::finish::finish;
use watchbell::lifecycle::rescue::orphans;
use watchbell::worker::Config;
use watchbell::{Context, HandlerResult, Tx, Worker};

use crate::support::Scene;
use crate::support::scene::verdicts;

#[derive(serde::Deserialize)]
struct Pay {
    amount: i32,
}

async fn pay(tx: &mut Tx, ctx: &Context, amount: i32) -> HandlerResult {
    sqlx::query("insert into paid (run_id, attempt, amount) values ($1, $2, $3)")
        .bind(ctx.run_id().0)
        .bind(ctx.attempt())
        .bind(amount)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A scene with a table of effects.
async fn scene() -> Scene {
    let mut scene = Scene::new().await;
    scene.psql("create table paid (run_id bigint not null, attempt integer not null, amount integer not null)").await;
    scene
}

/// Does what is due, then ends.
fn once() -> Config {
    let mut config = Config::default();
    config.once = true;
    config
}

async fn enqueue(scene: &mut Scene, columns: &str, values: &str) -> i64 {
    let payload = r#"{"amount": 5}"#;
    let insert = format!("insert into watchbell.runs (handler, payload{columns})");
    scene.value(format!("{insert} values ('pay', '{payload}'{values}) returning id")).await
}

#[tokio::test]
async fn effect_and_end_are_one_commit() {
    let mut scene = scene().await;
    let id = enqueue(&mut scene, "", "").await;
    let handler = |mut tx: Tx, payload: Pay, ctx: Context| async move { pay(&mut tx, &ctx, payload.amount).await };
    let worker = Worker::builder(scene.database.pool.clone()).transactional("pay", handler).config(once());
    worker.run(std::future::pending()).await.unwrap();
    assert_eq!(scene.status(id).await, "normal");
    let together = "select p.xmin = f.xmin from paid p join watchbell.runs_finished f on f.id = p.run_id";
    assert_eq!(scene.values::<bool>(together).await, [true]);
}

#[tokio::test]
async fn a_handler_that_fails_or_panics_leaves_no_effect() {
    let mut scene = scene().await;
    for amount in [-1, -2] {
        let payload = format!("jsonb_build_object('amount', {amount})");
        scene
            .psql(format!("insert into watchbell.runs (handler, payload, max_attempts) values ('pay', {payload}, 1)"))
            .await;
    }
    let handler = |mut tx: Tx, payload: Pay, ctx: Context| async move {
        pay(&mut tx, &ctx, payload.amount).await?;
        assert!(payload.amount != -2, "as a bug does");
        if payload.amount < 0 { Err("refused".into()) } else { HandlerResult::Ok(()) }
    };
    let worker = Worker::builder(scene.database.pool.clone()).transactional("pay", handler).config(once());
    worker.run(std::future::pending()).await.unwrap();
    let ends: Vec<String> = scene.values("select status || ': ' || error from watchbell.runs order by id").await;
    assert_eq!(ends, ["failed: refused", "failed: as a bug does"]);
    assert_eq!(scene.value::<i64>("select count(*) from paid").await, 0);
}

#[tokio::test]
async fn a_failed_statement_is_a_failure_and_not_a_half_done_run() {
    let mut scene = scene().await;
    let id = enqueue(&mut scene, ", max_attempts", ", 1").await;
    let handler = |mut tx: Tx, payload: Pay, ctx: Context| async move {
        pay(&mut tx, &ctx, payload.amount).await?;
        // the error is dropped: the transaction is aborted all the same
        let _ = sqlx::query("select 1 / 0").execute(&mut *tx).await;
        HandlerResult::Ok(())
    };
    let worker = Worker::builder(scene.database.pool.clone()).transactional("pay", handler).config(once());
    worker.run(std::future::pending()).await.unwrap();
    assert_eq!(scene.status(id).await, "failed");
    assert_eq!(scene.value::<i64>("select count(*) from paid").await, 0);
}

/// Takes the run away from its worker while the handler works, as rescue does for one thought dead.
async fn rescue_from(pool: &PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    sqlx::raw_sql("update watchbell.workers set state = 'dead', ended_at = now() where state <> 'dead'")
        .execute(&mut *connection)
        .await
        .unwrap();
    let lost = orphans(&mut connection).await.unwrap();
    assert_eq!(finish(&mut connection, verdicts(lost), None).await.unwrap().accepted.len(), 1);
}

#[tokio::test]
async fn a_superseded_handlers_effect_is_rolled_back_and_happens_once() {
    let mut scene = scene().await;
    let id = enqueue(&mut scene, "", "").await;
    let (calls, again) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let (pool, counted, done) = (scene.database.pool.clone(), Arc::clone(&calls), Arc::clone(&again));
    let handler = move |mut tx: Tx, payload: Pay, ctx: Context| {
        let (pool, calls, again) = (pool.clone(), Arc::clone(&counted), Arc::clone(&again));
        async move {
            pay(&mut tx, &ctx, payload.amount).await?;
            if calls.fetch_add(1, Ordering::SeqCst) == 0 {
                rescue_from(&pool).await;
            } else {
                again.notify_one();
            }
            HandlerResult::Ok(())
        }
    };
    let worker = Worker::builder(scene.database.pool.clone()).transactional("pay", handler);
    worker.run(async move { done.notified().await }).await.unwrap();
    let run = scene.run(id).await;
    assert_eq!((run.status.as_str(), run.attempt, run.crashes), ("normal", 2, 1));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_eq!(scene.values::<i32>("select attempt from paid").await, [2]);
}

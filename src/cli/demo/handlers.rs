//! The sample handlers: one that fails at first, one that takes long and goes on where it was, one for rows of a
//! watched table, two quick ones.

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;
use sqlx::PgPool;
use tokio::time;

use crate::handler::{Context, HandlerResult, Registry, Row, Tx};

/// Their names.
pub(in crate::cli) const HANDLERS: [&str; 5] = ["beat", "flaky", "hello", "init_host", "slow"];

/// How many steps the long one takes, of a second each.
pub(super) const STEPS: i32 = 12;

/// Adds those that are asked for.
pub(in crate::cli) fn handlers(mut registry: Registry, pool: &PgPool, names: &BTreeSet<&str>) -> Registry {
    if names.contains("beat") {
        registry = registry.handler("beat", beat);
    }
    if names.contains("flaky") {
        registry = registry.handler("flaky", flaky);
    }
    if names.contains("hello") {
        registry = registry.handler("hello", hello);
    }
    if names.contains("init_host") {
        registry = registry.transactional("init_host", init_host);
    }
    if names.contains("slow") {
        let pool = pool.clone();
        registry = registry.handler("slow", move |ctx: Context| slow(pool.clone(), ctx));
    }
    registry
}

async fn beat(ctx: Context) {
    ctx.log("beat");
}

async fn hello(ctx: Context) {
    ctx.log("hello");
}

async fn flaky(ctx: Context) -> HandlerResult {
    time::sleep(Duration::from_millis(30)).await;
    if ctx.attempt() == 1 {
        return Err("connection reset by peer".into());
    }
    Ok(())
}

/// What is needed of a row of `demo.hosts`.
#[derive(Deserialize)]
struct Host {
    id: i64,
}

/// Puts the host into the inventory, in the transaction that moves its row to `normal`.
async fn init_host(mut tx: Tx, host: Row<Host>) -> HandlerResult {
    sqlx::query("insert into demo.inventory (host_id, worker_pid) values ($1, $2)")
        .bind(host.id)
        .bind(i32::try_from(std::process::id()).unwrap_or_default())
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Writes down each step, so that whoever takes the run over goes on from there.
async fn slow(pool: PgPool, ctx: Context) -> HandlerResult {
    let mut done: i32 = sqlx::query_scalar("select coalesce(max(done), 0) from demo.steps where run_id = $1")
        .bind(ctx.run_id().0)
        .fetch_one(&pool)
        .await?;
    while done < STEPS {
        tokio::select! {
            () = time::sleep(Duration::from_secs(1)) => {}
            () = ctx.cancelled() => return Err("told to stop".into()),
        }
        done += 1;
        sqlx::query(
            "insert into demo.steps (run_id, done) values ($1, $2) on conflict (run_id) do update set done = excluded.done",
        )
        .bind(ctx.run_id().0)
        .bind(done)
        .execute(&pool)
        .await?;
    }
    Ok(())
}

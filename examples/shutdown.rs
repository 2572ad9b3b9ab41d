//! How a worker ends: it finishes what it has, gives back what it cannot finish, and loses nothing.
//!
//! ```text
//! DATABASE_URL=postgres://localhost/hello cargo run --example shutdown --no-default-features
//! ```
//!
//! Two runs take their time. The first is done soon after the shutdown begins: the drain waits for it. The
//! other would take a minute: when the drain timeout is over it is asked to stop, writes down how far it has
//! come, and goes back to `pending`, for the next worker. Ctrl-C begins the shutdown; a second one ends the
//! patience. (Without a terminal: so does `SHUTDOWN_AFTER_MS`.)

use std::time::Duration;

use serde_json::json;
use watchbell::client::{self, NewRun};
use watchbell::{Context, HandlerResult, Worker, db, migrate};

#[derive(serde::Deserialize)]
struct Walk {
    steps: u32,
}

async fn walk(walk: Walk, ctx: Context) -> HandlerResult {
    println!("run {} sets out: {} steps", ctx.run_id(), walk.steps);
    for step in 1..=walk.steps {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            () = ctx.cancelled() => {
                // a few seconds of grace: enough to leave things in order, not to go on
                println!("run {} stops at step {step}: {:?}", ctx.run_id(), ctx.stop_reason());
                return Err(format!("stopped at step {step}").into());
            }
        }
    }
    println!("run {} has arrived", ctx.run_id());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let pool = db::pool(&url.parse()?, 10).await?;
    migrate::up(&mut *pool.acquire().await?).await?;

    let mut ids = vec![];
    for steps in [15, 600] {
        ids.extend(NewRun::new("walk").payload(&json!({"steps": steps}))?.insert(&pool).await?);
    }

    let worker = Worker::builder(pool.clone()).handler("walk", walk).drain_timeout(Duration::from_secs(2));
    worker.run_with(first(), second()).await?;

    for id in ids {
        println!("run {id} is {}", client::run(&pool, id).await?.status);
    }
    Ok(())
}

/// Stop taking runs, finish those in hand.
async fn first() {
    let after = std::env::var("SHUTDOWN_AFTER_MS").ok().and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    match after {
        Some(after) => tokio::time::sleep(after).await,
        None => tokio::signal::ctrl_c().await.unwrap_or(()),
    }
    println!("shutting down");
}

/// Do not wait for them any longer.
async fn second() {
    tokio::signal::ctrl_c().await.unwrap_or(())
}

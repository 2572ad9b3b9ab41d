//! Three kinds of schedule side by side: by the clock, from the last end, from the last start.
//!
//! ```text
//! DATABASE_URL=postgres://localhost/hello cargo run --example three_kinds --no-default-features
//! ```
//!
//! Each tick takes a second, and the lines show what that does. `cron` goes by the wall clock: every third
//! second, whatever happened before. `fixed_rate` counts from start to start: every 2 s. `fixed_delay`
//! counts from the end of one run to the start of the next: every 1 + 2 s, and it can never overlap itself.
//! Ctrl-C ends it; start it again, and each goes on where it was.

use std::time::Duration;

use watchbell::client::NewSchedule;
use watchbell::{Context, HandlerResult, Worker, db, migrate};

async fn tick(ctx: Context) -> HandlerResult {
    // what it was meant for, and not when it came to run: `fire_at` is exact
    let fire_at = ctx.fire_at().map(|at| at.format("%H:%M:%S%.3f").to_string()).unwrap_or_default();
    println!("{:<11} at {fire_at}", ctx.schedule().unwrap_or("by hand"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let pool = db::pool(&url.parse()?, 10).await?;
    migrate::up(&mut *pool.acquire().await?).await?;

    // six fields: the first is seconds
    NewSchedule::cron("cron", "*/3 * * * * *", "tick").timezone("Europe/Paris").upsert(&pool).await?;
    NewSchedule::fixed_rate("fixed_rate", Duration::from_secs(2), "tick").upsert(&pool).await?;
    NewSchedule::fixed_delay("fixed_delay", Duration::from_secs(2), "tick").upsert(&pool).await?;

    let ctrl_c = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    Worker::builder(pool).handler("tick", tick).run(ctrl_c).await?;
    Ok(())
}

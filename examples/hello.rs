//! The smallest whole program: one schedule, one handler, one worker.
//!
//! ```text
//! createdb hello
//! DATABASE_URL=postgres://localhost/hello cargo run --example hello --no-default-features
//! ```
//!
//! Start it twice: the two share the work, and each fire time still says hello once. Ctrl-C ends it.

use watchbell::{Context, HandlerResult, Worker, db, fixed_rate, migrate, seconds};

async fn hello(ctx: Context) -> HandlerResult {
    println!("hello from run {}, due at {}", ctx.run_id(), ctx.run_at());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let pool = db::pool(&url.parse()?, 10).await?;

    // any number of processes may, at every start: what is there already is left alone
    migrate::up(&mut *pool.acquire().await?).await?;

    let ctrl_c = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    Worker::builder(pool).schedule("hello", fixed_rate(seconds(2)), hello).run(ctrl_c).await?;
    Ok(())
}

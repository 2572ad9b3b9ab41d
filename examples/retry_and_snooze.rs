//! What a handler may say: not yet, try again, try again then, never.
//!
//! ```text
//! DATABASE_URL=postgres://localhost/hello cargo run --example retry_and_snooze --no-default-features
//! ```
//!
//! A delivery waits until its parcel is packed, meets a closed door, is told when to come back, and arrives.
//! A second one has no address, which no further attempt can mend. Every attempt's error is kept with the
//! run, and read back at the end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use watchbell::client::{self, NewRun};
use watchbell::{Context, HandlerResult, Outcome, Worker, db, fatal, migrate, retry_after, snooze};

#[derive(serde::Deserialize)]
struct Parcel {
    address: Option<String>,
}

async fn deliver(parcel: Parcel, ctx: Context) -> HandlerResult<Outcome> {
    let Some(address) = parcel.address else {
        // not an error that time mends: the run is `failed` at once
        return Err(fatal("there is no address on it"));
    };
    // the fencing token rises with every claim of the run, the attempt only when an attempt was used up
    println!("call {}, attempt {}", ctx.fence(), ctx.attempt());
    match ctx.fence() {
        // nothing is wrong, it is only too early: this uses up no attempt
        1 => Ok(snooze(Duration::from_millis(300))),
        // any error, by `?` or so: again by the run's retry policy, later and later
        2 => Err("nobody is at home".into()),
        // whoever was asked knows better than the policy when it is worth trying
        3 => Err(retry_after("come back after lunch", Duration::from_millis(500))),
        _ => {
            println!("delivered to {address}");
            Ok(Outcome::Done)
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let pool = db::pool(&url.parse()?, 10).await?;
    migrate::up(&mut *pool.acquire().await?).await?;

    let lost = NewRun::new("deliver").insert(&pool).await?.ok_or("it has no key")?;
    let parcel = NewRun::new("deliver")
        .payload(&json!({"address": "Mill Lane 7"}))?
        .max_attempts(5)
        .retry(&json!({"strategy": "exponential", "base": "200ms", "max": "1 min"}))?
        .insert(&pool)
        .await?
        .ok_or("it has no key")?;

    // the worker ends when the parcel has arrived, so that this story has an end
    let arrived = Arc::new(Notify::new());
    let done = Arc::clone(&arrived);
    let worker = Worker::builder(pool.clone()).handler("deliver", move |parcel: Parcel, ctx: Context| {
        let done = Arc::clone(&done);
        async move {
            let outcome = deliver(parcel, ctx).await;
            if matches!(outcome, Ok(Outcome::Done)) {
                done.notify_one();
            }
            outcome
        }
    });
    worker.run(arrived.notified()).await?;

    for id in [lost, parcel] {
        let run = client::run(&pool, id).await?;
        println!("run {id} is {} after {} attempts", run.status, run.attempt);
        let errors = "select attempt, kind, message from watchbell.run_errors where run_id = $1 order by at";
        for (attempt, kind, message) in
            sqlx::query_as::<_, (i32, String, String)>(errors).bind(id.0).fetch_all(&pool).await?
        {
            println!("  attempt {attempt}, {kind}: {message}");
        }
    }
    Ok(())
}

//! Steering a schedule: pause, resume, skip, run now, delete. The functions of the schema, called.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgExecutor;

use super::answer::answer;
use super::new_run::json_text;
use crate::error::Result;
use crate::run::RunId;

/// Stops a schedule from firing, until a time if given; its open runs go on.
///
/// Paused again, it keeps the time since when it is paused; note and end are the new ones. Fire times of the pause
/// make no run.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client;
///
/// client::pause(&pool, "nightly", Some("the warehouse moves"), None).await?;
/// client::run_now(&pool, "nightly").await?; // a paused schedule runs when asked to
/// client::resume(&pool, "nightly").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) with the nearest name; [`Error::Invalid`](crate::Error::Invalid) if
/// `until` has passed.
pub async fn pause(
    executor: impl PgExecutor<'_>,
    schedule: &str,
    note: Option<&str>,
    until: Option<DateTime<Utc>>,
) -> Result<()> {
    let call = sqlx::query("select watchbell.pause($1, $2, $3)").bind(schedule).bind(note).bind(until);
    answer("schedule", schedule, call.execute(executor).await.map(drop))
}

/// Lets a paused schedule fire again, from now on.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) with the nearest name.
pub async fn resume(executor: impl PgExecutor<'_>, schedule: &str) -> Result<()> {
    let call = sqlx::query("select watchbell.resume($1)").bind(schedule);
    answer("schedule", schedule, call.execute(executor).await.map(drop))
}

/// Skips the next fire time and answers it; each call skips one more.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); [`Error::Conflict`](crate::Error::Conflict) if it has no next fire
/// time, because it is not planned yet, is over, or waits for its run to end.
pub async fn skip_next(executor: impl PgExecutor<'_>, schedule: &str) -> Result<DateTime<Utc>> {
    let call = sqlx::query_scalar("select watchbell.skip_next($1)").bind(schedule);
    answer("schedule", schedule, call.fetch_one(executor).await)
}

/// Makes a run of a schedule at once, with its own payload; its fire times stay as they are.
///
/// The run takes from the schedule what a fired one takes, and obeys its concurrency key. It is never skipped by
/// `overlap`. Also of a schedule that is paused or done.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) with the nearest name.
pub async fn run_now(executor: impl PgExecutor<'_>, schedule: &str) -> Result<RunId> {
    let call = sqlx::query_scalar("select watchbell.run_now($1)").bind(schedule);
    answer("schedule", schedule, call.fetch_one(executor).await)
}

/// As [`run_now`], with another payload: any value that becomes a JSON object of at most 1 MiB.
///
/// # Errors
/// As [`run_now`]; [`Error::Invalid`](crate::Error::Invalid) for a payload that is none.
pub async fn run_now_with(
    executor: impl PgExecutor<'_>,
    schedule: &str,
    payload: &(impl Serialize + ?Sized),
) -> Result<RunId> {
    let payload = json_text("payload", payload)?;
    let call = sqlx::query_scalar("select watchbell.run_now($1, $2::jsonb)").bind(schedule).bind(payload);
    answer("schedule", schedule, call.fetch_one(executor).await)
}

/// Deletes a schedule; its runs stay, open ones too.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) with the nearest name.
pub async fn unschedule(executor: impl PgExecutor<'_>, schedule: &str) -> Result<()> {
    let call = sqlx::query("select watchbell.unschedule($1)").bind(schedule);
    answer("schedule", schedule, call.execute(executor).await.map(drop))
}

/// Cancels all open runs of a schedule, which goes on firing; answers how many.
///
/// Those that wait are over at once, those that run have been asked to stop, which takes about a second.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) with the nearest name.
pub async fn cancel_schedule(executor: impl PgExecutor<'_>, schedule: &str, reason: Option<&str>) -> Result<u32> {
    let call = sqlx::query_scalar("select watchbell.cancel_schedule($1, $2)").bind(schedule).bind(reason);
    answer("schedule", schedule, call.fetch_one(executor).await).map(i32::unsigned_abs)
}

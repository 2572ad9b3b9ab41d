//! Steering queues and workers.

use sqlx::PgExecutor;

use super::answer::answer;
use crate::error::Result;

/// Stops all workers from starting runs of a queue, within a second; running ones go on.
///
/// A queue that does not exist yet is made.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a name that no queue can have.
pub async fn pause_queue(executor: impl PgExecutor<'_>, queue: &str, note: Option<&str>) -> Result<()> {
    let call = sqlx::query("select watchbell.pause_queue($1, $2)").bind(queue).bind(note);
    answer("queue", queue, call.execute(executor).await.map(drop))
}

/// Lets workers start runs of a queue again.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) with the nearest name.
pub async fn resume_queue(executor: impl PgExecutor<'_>, queue: &str) -> Result<()> {
    let call = sqlx::query("select watchbell.resume_queue($1)").bind(queue);
    answer("queue", queue, call.execute(executor).await.map(drop))
}

/// Asks a worker, by its number, to claim nothing more, end its runs and stop, as SIGTERM does.
///
/// It looks once a second. Asked again, it is the same request.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); [`Error::Conflict`](crate::Error::Conflict) if it has ended.
pub async fn drain(executor: impl PgExecutor<'_>, worker: i32, reason: Option<&str>) -> Result<()> {
    let call = sqlx::query("select watchbell.drain($1, $2)").bind(worker).bind(reason);
    answer("worker", &worker.to_string(), call.execute(executor).await.map(drop))
}

/// Takes back a drain that its worker has not seen yet; false if there is none.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); [`Error::Conflict`](crate::Error::Conflict) if it drains already,
/// which cannot be undone: start another worker.
pub async fn undrain(executor: impl PgExecutor<'_>, worker: i32) -> Result<bool> {
    let call = sqlx::query_scalar("select watchbell.undrain($1)").bind(worker);
    answer("worker", &worker.to_string(), call.fetch_one(executor).await)
}

//! Waiting for a run's end.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use super::{RunRow, run};
use crate::db::Named;
use crate::error::{Error, Result};
use crate::run::RunId;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Waits until a run is over and answers it; `None` if it is not over within `limit` (`None`: for ever).
///
/// It asks again and again, after a tenth of the time waited so far, 5 to 500 ms: an end is seen late by no more
/// than that, and no connection is held meanwhile. The run must be committed.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use std::time::Duration;
/// use watchbell::client;
///
/// let id = client::run_now(&pool, "nightly").await?;
/// match client::wait(&pool, id, Duration::from_secs(60)).await? {
///     Some(run) => println!("{} after {} attempts", run.status, run.attempt),
///     None => println!("it takes more than a minute"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NotFound`] for an unknown id; otherwise what the database answers.
pub async fn wait(pool: &PgPool, id: RunId, limit: impl Into<Option<Duration>>) -> Result<Option<RunRow>> {
    let (began, limit) = (Instant::now(), limit.into());
    loop {
        // the whole row, payload and all, is read only once
        let query = sqlx::query_scalar("select r.finished_at is not null from watchbell.runs r where r.id = $1");
        match query.bind(id).fetch_optional(pool).await.named()? {
            None => return Err(Error::no_run(id)),
            Some(true) => return run(pool, id).await.map(Some),
            Some(false) => {}
        }
        let waited = began.elapsed();
        let mut pause = (waited / 10).clamp(FIRST_PAUSE, LAST_PAUSE);
        if let Some(limit) = limit {
            if waited >= limit {
                return Ok(None);
            }
            pause = pause.min(limit - waited);
        }
        sleep(pause).await;
    }
}

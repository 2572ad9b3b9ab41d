//! Waiting for something to become true, with an end: tests never sleep to synchronise.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;

/// Between two looks: a debug build on a busy machine spends milliseconds on each.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until there is something to see, at most for `limit`; says how long that took.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return (seen, began.elapsed());
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks until this condition, an SQL expression, holds; says how long that took.
pub async fn until_true(pool: &PgPool, condition: &str, limit: Duration) -> Duration {
    let query = format!("select coalesce(({condition}), false)");
    let look = async || {
        // a server that is down or starting has nothing to show yet
        let holds: sqlx::Result<bool> = sqlx::query_scalar(AssertSqlSafe(query.clone())).fetch_one(pool).await;
        holds.is_ok_and(|holds| holds).then_some(())
    };
    until(condition, limit, look).await.1
}

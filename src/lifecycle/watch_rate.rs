//! Rate: how many rows of a step may start now, over all workers.
//!
//! **In** a step with a rate. **Out** so many rows fewer that may start. **Lock** the step's row of `watch_rates`, for
//! one statement. **Crash** rows that were allowed and did not start are lost to the rate, nothing else.

use std::time::Duration;

use sqlx::PgPool;

use crate::watch::Rate;

const TAKE: &str = include_str!("../sql/8_watch_rate.sql");
const NEW: &str = include_str!("../sql/8_watch_rate_new.sql");
const BACK: &str = include_str!("../sql/8_watch_rate_back.sql");

/// Takes what may start, up to `want` rows; none: how long until the next one may.
pub async fn allow(own: &PgPool, watch: i64, step: &str, rate: Rate, want: i64) -> sqlx::Result<Result<i64, Duration>> {
    let period = i64::try_from(rate.period.as_millis()).unwrap_or(i64::MAX);
    for _ in 0..2 {
        let take = sqlx::query_as(TAKE).bind(watch).bind(step).bind(want).bind(rate.rows).bind(period);
        let Some((granted, wait_ms)) = take.fetch_optional(own).await? else {
            sqlx::query(NEW).bind(watch).bind(step).execute(own).await?;
            continue;
        };
        let (granted, wait_ms): (i64, i64) = (granted, wait_ms);
        return Ok(if granted > 0 { Ok(granted) } else { Err(Duration::from_millis(wait_ms.max(1).unsigned_abs())) });
    }
    Ok(Err(rate.period))
}

/// Gives back what was allowed and not used.
pub async fn give_back(own: &PgPool, watch: i64, step: &str, unused: i64) -> sqlx::Result<()> {
    sqlx::query(BACK).bind(watch).bind(step).bind(unused).execute(own).await.map(drop)
}

//! Where a measurement takes place: a queue of its own, so that it disturbs nothing else in the database.

use sqlx::{PgConnection, PgPool};

use crate::{
    Result,
    client::{NewRun, insert_many},
};

pub(super) const QUEUE: &str = "bench";
pub(super) const HANDLER: &str = "bench.noop";

/// Puts `n` runs into the queue; returns how many seconds that took.
pub(super) async fn fill(conn: &mut PgConnection, n: usize) -> Result<f64> {
    let began = std::time::Instant::now();
    let mut left = n;
    while left > 0 {
        let some = left.min(1000);
        insert_many(&mut *conn, (0..some).map(|_| NewRun::new(HANDLER).queue(QUEUE))).await?;
        left -= some;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// How many runs of the queue have not ended.
pub(super) async fn left(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from watchbell.runs_live where queue = $1")
        .bind(QUEUE)
        .fetch_one(pool)
        .await?)
}

/// Removes what an earlier, interrupted measurement left in the queue.
pub(super) async fn clear(conn: &mut PgConnection) -> Result<()> {
    sqlx::query("delete from watchbell.runs_live where queue = $1").bind(QUEUE).execute(&mut *conn).await?;
    sqlx::query("vacuum analyze watchbell.runs_live").execute(conn).await?;
    Ok(())
}

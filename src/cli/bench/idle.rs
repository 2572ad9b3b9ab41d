//! `bench idle`: what a worker with nothing to do asks of the server.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    figure::Figure,
    place::{HANDLER, QUEUE, clear},
    usage::Usage,
};
use crate::{Result, Worker};

/// Transactions of the measurement itself between the two counts.
const OWN: f64 = 3.0;

/// Lets one worker idle for `seconds` and counts transactions, connections and CPU.
pub(super) async fn measure(pool: &PgPool, seconds: u64) -> Result<Vec<Figure>> {
    let mut conn = pool.acquire().await?;
    clear(&mut conn).await?;
    let stop = CancellationToken::new();
    let worker =
        Worker::builder(pool.clone()).handler(HANDLER, || async {}).queues([QUEUE]).run(stop.clone().cancelled_owned());
    let worker = tokio::spawn(worker);
    time::sleep(Duration::from_secs(4)).await;
    let connections: i64 =
        sqlx::query_scalar("select count(*) from pg_stat_activity where application_name like 'watchbell %' and application_name <> 'watchbell bench' and datname = current_database()")
            .fetch_one(&mut *conn)
            .await?;
    let (before, began) = (transactions(&mut conn).await?, Instant::now());
    let usage = Usage::read(&mut conn).await?;
    time::sleep(Duration::from_secs(seconds)).await;
    let usage = Usage::read(&mut conn).await?.since(usage);
    let count = transactions(&mut conn).await? - before - OWN;
    let elapsed = began.elapsed().as_secs_f64();
    stop.cancel();
    worker.await.map_err(|e| crate::Error::Conflict(format!("the measured worker broke down: {e}")))??;
    let settings = format!("1 worker, {elapsed:.0} s");
    let figure = |name, value, unit| Figure { name, value, unit, n: seconds, settings: settings.clone() };
    Ok(vec![
        figure("idle_transactions", count.max(0.0) / elapsed, "1/s"),
        figure("idle_worker_cpu", usage.own / elapsed * 100.0, "% of a core"),
        figure("idle_connections", connections as f64, ""),
    ])
}

/// Transactions this database has seen. Statistics are flushed when a backend goes idle, at most a second late.
async fn transactions(conn: &mut sqlx::PgConnection) -> Result<f64> {
    time::sleep(Duration::from_millis(1100)).await;
    Ok(sqlx::query_scalar(
        "select (xact_commit + xact_rollback)::double precision from pg_stat_database where datname = current_database()",
    )
    .fetch_one(conn)
    .await?)
}

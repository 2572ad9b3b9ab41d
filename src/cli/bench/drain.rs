//! `bench drain`: how fast one worker gets through no-op runs that stand in the queue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{
    figure::Figure,
    place::{HANDLER, QUEUE, clear, fill, left},
    raw,
    usage::Usage,
};
use crate::{Result, Worker};

/// How a drain is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// Runs in the queue.
    pub(super) runs: usize,
    /// Slots of the worker.
    pub(super) slots: usize,
    /// Runs a statement of the raw loop.
    pub(super) raw_batch: usize,
}

/// Measures bulk insert, the raw limit of our own statements, then the worker, in one run.
pub(super) async fn measure(pool: &PgPool, how: Drain) -> Result<Vec<Figure>> {
    let mut conn = pool.acquire().await?;
    clear(&mut conn).await?;
    let n = how.runs as u64;
    let mut figures = vec![];
    let mut note = |name, value, unit, settings: String| figures.push(Figure { name, value, unit, n, settings });

    let seconds = fill(&mut conn, how.runs).await?;
    note("insert_many", n as f64 / seconds, "runs/s", "1000 a statement, 1 connection".into());
    let limit = raw::drain(&pool.connect_options(), how.raw_batch).await?;
    note("raw_limit", limit, "runs/s", format!("2 connections, batch {}", how.raw_batch));

    clear(&mut conn).await?;
    fill(&mut conn, how.runs).await?;
    let before = Usage::read(&mut conn).await?;
    let took = drained(pool, how).await?;
    let cost = Usage::read(&mut conn).await?.since(before);
    let rate = n as f64 / took.as_secs_f64();
    let per_run = |seconds: f64| seconds / n as f64 * 1e6;
    note("drain", rate, "runs/s", format!("1 worker, {} slots", how.slots));
    note("drain_of_raw_limit", rate / limit, "ratio", String::new());
    note("drain_worker_cpu", per_run(cost.own), "us/run", String::new());
    if let Some(server) = cost.server {
        note("drain_postgres_cpu", per_run(server), "us/run", String::new());
    }
    note("drain_wal", cost.wal / n as f64, "bytes/run", String::new());
    Ok(figures)
}

/// Runs a worker until the queue is empty; the time from the first start of a handler to the last end recorded.
async fn drained(pool: &PgPool, how: Drain) -> Result<Duration> {
    let stop = CancellationToken::new();
    let started = Arc::new(AtomicUsize::new(0));
    let first = Arc::new(OnceLock::new());
    let (count, mark) = (Arc::clone(&started), Arc::clone(&first));
    let worker = Worker::builder(pool.clone())
        .handler(HANDLER, move || {
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                let _ = mark.set(Instant::now());
            }
            std::future::ready(())
        })
        .queues([QUEUE])
        .slots(how.slots)
        .run(stop.clone().cancelled_owned());
    let worker = tokio::spawn(worker);
    // the count costs nothing; the query, which reads the whole queue, only comes at the end
    while !worker.is_finished() && (started.load(Ordering::Relaxed) < how.runs || left(pool).await? > 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = first.get().map(Instant::elapsed).unwrap_or_default();
    stop.cancel();
    worker.await.map_err(|e| crate::Error::Conflict(format!("the measured worker broke down: {e}")))??;
    Ok(took)
}

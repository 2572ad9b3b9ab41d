//! `bench latency`: from sending a plain INSERT to the start of its handler, in an idle fleet.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

use super::{
    figure::{Figure, percentile},
    place::{QUEUE, clear},
};
use crate::{Context, Result, Worker};

const HANDLER: &str = "bench.mark";

/// How latency is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    /// How many inserts.
    pub(super) inserts: usize,
    /// Inserts a second.
    pub(super) rate: f64,
    /// Pause before each insert long enough for the worker to be deep asleep, instead of `rate`.
    pub(super) asleep: bool,
}

/// Inserts single runs by plain SQL and waits for each to start.
pub(super) async fn measure(pool: &PgPool, how: Latency) -> Result<Vec<Figure>> {
    let mut conn = pool.acquire().await?;
    clear(&mut conn).await?;
    let (started, mut starts) = mpsc::unbounded_channel::<Instant>();
    let started = Arc::new(Mutex::new(started));
    let stop = CancellationToken::new();
    let worker = Worker::builder(pool.clone())
        .handler(HANDLER, move |_: Context| {
            let at = Instant::now();
            let _ = started.lock().unwrap_or_else(PoisonError::into_inner).send(at);
            std::future::ready(())
        })
        .queues([QUEUE])
        .run(stop.clone().cancelled_owned());
    let worker = tokio::spawn(worker);
    time::sleep(Duration::from_secs(2)).await;
    let mut samples = Vec::with_capacity(how.inserts);
    let pause = if how.asleep { Duration::from_millis(1500) } else { Duration::from_secs_f64(1.0 / how.rate) };
    for _ in 0..how.inserts {
        let sent = Instant::now();
        sqlx::query("insert into watchbell.runs (handler, queue) values ($1, $2)")
            .bind(HANDLER)
            .bind(QUEUE)
            .execute(&mut *conn)
            .await?;
        let Ok(Some(at)) = time::timeout(Duration::from_secs(10), starts.recv()).await else { break };
        samples.push((at - sent).as_secs_f64() * 1000.0);
        time::sleep(pause.saturating_sub(sent.elapsed())).await;
    }
    stop.cancel();
    worker.await.map_err(|e| crate::Error::Conflict(format!("the measured worker broke down: {e}")))??;
    samples.sort_unstable_by(f64::total_cmp);
    let settings = if how.asleep { "worker deep asleep".to_owned() } else { format!("{} inserts/s", how.rate) };
    let n = samples.len() as u64;
    Ok([("insert_to_start_p50", 0.5), ("insert_to_start_p95", 0.95), ("insert_to_start_p99", 0.99)]
        .map(|(name, share)| Figure {
            name,
            value: percentile(&samples, share),
            unit: "ms",
            n,
            settings: settings.clone(),
        })
        .to_vec())
}

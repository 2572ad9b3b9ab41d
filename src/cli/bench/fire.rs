//! `bench fire`: how long after its fire time a run starts, with many schedules stored and many due each second.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

use super::{
    figure::{Figure, percentile},
    latency::{self, Latency},
    place::{self, QUEUE},
    timetable::{self, Clock, Timetable, raw_fire},
    usage::Usage,
};
use crate::{Context, Result, Worker};

const HANDLER: &str = "bench.fire";
/// Between the end of the preparations and the first fire time: a worker starts within it.
const LEAD: TimeDelta = TimeDelta::seconds(3);
/// How long runs that are late are waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Schedules in one transaction, as a worker does it.
const BATCH: i64 = 200;
/// Schedules of the loop without a worker.
const RAW: u32 = 5_000;

/// How fire is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fire {
    pub(super) timetable: Timetable,
    /// For how many seconds schedules come due.
    pub(super) seconds: u32,
}

type Start = (Instant, DateTime<Utc>);

/// Measures an idle insert, the raw limit of our own statements, then the lag of one worker, in one run.
pub(super) async fn measure(pool: &PgPool, how: Fire) -> Result<Vec<Figure>> {
    how.timetable.check()?;
    let mut figures = latency::measure(pool, Latency { inserts: 100, rate: 50.0, asleep: false }).await?;
    let idle = figures.first().map_or(f64::NAN, |p50| p50.value);
    let mut conn = pool.acquire().await?;
    timetable::clear(&mut conn).await?;
    let measured = with_schedules(pool, &mut conn, how, idle).await;
    // also after a failure: they would go on firing for ever
    timetable::clear(&mut conn).await?;
    place::clear(&mut conn).await?;
    figures.extend(measured?);
    Ok(figures)
}

async fn with_schedules(pool: &PgPool, conn: &mut PgConnection, how: Fire, idle_ms: f64) -> Result<Vec<Figure>> {
    let Timetable { schedules, due_per_second, burst } = how.timetable;
    how.timetable.store(conn, HANDLER).await?;
    let raw = raw_fire(conn, RAW.min(schedules), BATCH).await?;
    place::clear(conn).await?;

    let begin = how.timetable.begin(conn, LEAD).await?;

    let (started, mut starts) = mpsc::unbounded_channel::<Start>();
    let stop = CancellationToken::new();
    let worker = Worker::builder(pool.clone())
        .handler(HANDLER, move |ctx: Context| {
            let at = Instant::now();
            if let Some(fire_at) = ctx.fire_at() {
                let _ = started.send((at, fire_at));
            }
            std::future::ready(())
        })
        .queues([QUEUE])
        .run(stop.clone().cancelled_owned());
    let worker = tokio::spawn(worker);
    let clock = Clock::read(conn).await?;
    let before = Usage::read(conn).await?;
    let expected = due_per_second as usize * how.seconds as usize;
    let end = begin + TimeDelta::seconds(i64::from(how.seconds));
    let samples = lags(&mut starts, expected, clock, begin, end).await;
    let cost = Usage::read(conn).await?.since(before);
    stop.cancel();
    worker.await.map_err(|e| crate::Error::Conflict(format!("the measured worker broke down: {e}")))??;
    let decided = timetable::decided(conn, begin).await?;

    let n = samples.len() as u64;
    let shape = if burst { "at once" } else { "evenly" };
    let settings = format!("{schedules} stored, {due_per_second}/s {shape}");
    let figure = |name, value, unit| Figure { name, value, unit, n, settings: settings.clone() };
    let per_fire = |seconds: f64| seconds / n.max(1) as f64 * 1e6;
    let p50 = percentile(&samples, 0.5);
    let mut figures = vec![
        figure("fire_raw_limit", raw, "schedules/s"),
        figure("fire_lag_p50", p50, "ms"),
        figure("fire_lag_p99", percentile(&samples, 0.99), "ms"),
        figure("fire_lag_max", percentile(&samples, 1.0), "ms"),
        figure("fire_lag_p50_of_insert_to_start", p50 / idle_ms, "ratio"),
        figure("fire_decided_p50", percentile(&decided, 0.5), "ms"),
        figure("fire_decided_p99", percentile(&decided, 0.99), "ms"),
        figure("fire_started", n as f64 / expected as f64, "ratio"),
        figure("fire_load_of_raw_limit", f64::from(due_per_second) / raw, "ratio"),
        figure("fire_worker_cpu", per_fire(cost.own), "us/fire"),
    ];
    if let Some(server) = cost.server {
        figures.push(figure("fire_postgres_cpu", per_fire(server), "us/fire"));
    }
    figures.push(figure("fire_wal", cost.wal / n.max(1) as f64, "bytes/fire"));
    Ok(figures)
}

/// The lags of the runs of one stretch of time, sorted, until all have started or no more come.
async fn lags(
    starts: &mut mpsc::UnboundedReceiver<Start>,
    expected: usize,
    clock: Clock,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Vec<f64> {
    let mut samples = Vec::with_capacity(expected);
    let until = (end - begin + LEAD).to_std().unwrap_or_default() + PATIENCE;
    let all = async {
        while samples.len() < expected {
            let Some((at, fire_at)) = starts.recv().await else { break };
            if fire_at >= begin && fire_at < end {
                samples.push(clock.since_ms(fire_at, at));
            }
        }
    };
    let _ = time::timeout(until, all).await;
    samples.sort_unstable_by(f64::total_cmp);
    samples
}

//! `bench takeover`: worker processes are killed with a run in hand; how soon does another start it?

use std::process::Stdio;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::process::{Child, Command};
use tokio::time;

use super::figure::{Figure, percentile};
use crate::client::NewRun;
use crate::{Error, Result};

const QUEUE: &str = "bench-takeover";
/// A worker judges others only when its own session has stood for five seconds; one second for the rest.
const SETTLED: Duration = Duration::from_secs(6);
/// Longer than anything measured here: a run that nobody takes over is a failure, not a sample.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills the holder of a long run `kills` times; the times until another worker holds it, in seconds.
pub(super) async fn measure(pool: &PgPool, url: Option<&str>, kills: u32) -> Result<Vec<Figure>> {
    let mut workers = vec![];
    for _ in 0..3 {
        workers.push(start(url)?);
    }
    let mut samples = Vec::with_capacity(kills as usize);
    for _ in 0..kills {
        let run = NewRun::new("sql")
            .queue(QUEUE)
            .payload(&serde_json::json!({"statement": "select pg_sleep(600)"}))?
            .max_attempts(2)
            .insert(pool)
            .await?
            .ok_or_else(|| Error::Conflict("the run to be taken over was not inserted".into()))?;
        let first = holder(pool, run.0, 0).await?;
        settled(pool).await?;
        let victim = pid(pool, first).await?;
        let place = workers.iter().position(|worker| worker.id() == u32::try_from(victim).ok()).ok_or_else(|| {
            Error::Conflict(format!("queue {QUEUE} is served by a worker of somebody else's, pid {victim}"))
        })?;
        let mut killed = workers.swap_remove(place);
        let began = Instant::now();
        killed.start_kill().map_err(|e| Error::io("killing a worker", e))?;
        holder(pool, run.0, first).await?;
        samples.push(began.elapsed().as_secs_f64());
        let _ = killed.wait().await;
        sqlx::query("select watchbell.cancel($1)").bind(run.0).execute(pool).await?;
        workers.push(start(url)?);
    }
    for mut worker in workers {
        let _ = worker.kill().await;
    }
    samples.sort_unstable_by(f64::total_cmp);
    let n = samples.len() as u64;
    let settings = "3 worker processes, SIGKILL of the holder".to_owned();
    Ok([("takeover_p50", 0.5), ("takeover_max", 1.0)]
        .map(|(name, share)| Figure {
            name,
            value: percentile(&samples, share),
            unit: "s",
            n,
            settings: settings.clone(),
        })
        .to_vec())
}

/// A worker process of this program, which ends with this one; without `url` it finds the database where this
/// process did, in the environment.
fn start(url: Option<&str>) -> Result<Child> {
    let program = std::env::current_exe().map_err(|e| Error::io("finding this program", e))?;
    Command::new(program)
        .args(["worker", "run", "--enable-sql", "--allow-superuser-sql", "--exit-with-parent", "--queues", QUEUE])
        .args(["--log-level", "off", "--pool", "3"])
        .envs(url.map(|url| ("WATCHBELL_DATABASE_URL", url)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Error::io("starting a worker process", e))
}

/// Waits until the run is held by another worker than `not`; says by which.
async fn holder(pool: &PgPool, run: i64, not: i32) -> Result<i32> {
    let began = Instant::now();
    loop {
        let by: Option<i32> = sqlx::query_scalar("select claimed_by from watchbell.runs_live where id = $1")
            .bind(run)
            .fetch_optional(pool)
            .await?
            .flatten();
        match by {
            Some(by) if by != not => return Ok(by),
            _ if began.elapsed() > PATIENCE => {
                return Err(Error::Conflict(format!("run {run} was not taken over within {PATIENCE:?}")));
            }
            _ => time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// Waits until three workers of the queue live, two of them long enough to judge the third.
async fn settled(pool: &PgPool) -> Result<()> {
    let began = Instant::now();
    loop {
        let (living, old): (i64, i64) = sqlx::query_as(
            "select count(*), count(*) filter (where started_at < clock_timestamp() - make_interval(secs => $2)) \
             from watchbell.workers where state = 'running' and presence and queues = array[$1]",
        )
        .bind(QUEUE)
        .bind(SETTLED.as_secs_f64())
        .fetch_one(pool)
        .await?;
        if living >= 3 && old >= 2 {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(Error::Conflict(format!("{living} of 3 worker processes live after {PATIENCE:?}")));
        }
        time::sleep(Duration::from_millis(50)).await;
    }
}

async fn pid(pool: &PgPool, worker: i32) -> Result<i32> {
    Ok(sqlx::query_scalar("select pid from watchbell.workers where id = $1").bind(worker).fetch_one(pool).await?)
}

//! `watchbell bench`: load tests, on the database that is configured or on a private one.
//!
//! Every figure stands beside what it depends on: the machine, the server and, for throughput, the raw
//! limit of our own statements measured just before. Absolute figures drift with the machine's load;
//! ratios and costs per run do not.

mod drain;
mod figure;
mod idle;
mod latency;
mod place;
mod raw;
mod takeover;
mod usage;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use sqlx::PgPool;

use super::Setting;
use super::output::note;
use super::value;
use crate::db::{self, DatabaseUrl, Session};
use crate::embedded::{Options, Server};
use crate::error::Result;
use figure::Figure;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// How many runs a second are claimed, run and finished when many wait.
    Drain(DrainArgs),
    /// How long after its INSERT a run starts on an idle worker.
    Latency(LatencyArgs),
    /// What a worker with nothing to do asks of the server.
    Idle(IdleArgs),
    /// How soon another worker starts the run of one that was killed.
    Takeover(TakeoverArgs),
    /// How many rows of a watched table move on in a second, in both modes.
    Watch(WatchArgs),
}

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// How many rows are pending at the start, 1 to 10000000.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = value::number(1..=10_000_000))]
    rows: u32,
    /// Rows taken at once, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value::number(1..=1000))]
    batch: u32,
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// How many runs wait at the start, 1 to 10000000.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = value::number(1..=10_000_000))]
    runs: u32,
    /// Slots of the worker, 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value::number(1..=10_000))]
    slots: u32,
}

#[derive(Debug, Args)]
pub(super) struct LatencyArgs {
    /// How many INSERTs, 1 to 100000.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = value::number(1..=100_000))]
    inserts: u32,
    /// INSERTs a second, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = value::number(1..=1000))]
    rate: u32,
    /// Wait 1.5 s before each INSERT, so that the worker sleeps deeply and must be woken.
    #[arg(long, conflicts_with = "rate")]
    asleep: bool,
}

#[derive(Debug, Args)]
pub(super) struct IdleArgs {
    /// For how many seconds, 1 to 3600.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value::number(1..=3600))]
    seconds: u32,
}

#[derive(Debug, Args)]
pub(super) struct TakeoverArgs {
    /// How many workers are killed, one after the other, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value::number(1..=1000))]
    kills: u32,
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    let private = match setting.database_if_any()? {
        Some(_) => None,
        None => {
            note("no database is configured: measuring on a private one, with PostgreSQL's own settings");
            Some(Server::start(Options::throwaway()).await?)
        }
    };
    let given = private.as_ref().map(Server::url).or(setting.database_url.as_deref());
    let url = match given {
        Some(given) => given.parse()?,
        None => setting.database()?,
    };
    let measured = measure(verb, &url, given).await;
    if let Some(server) = private {
        server.stop().await?;
    }
    setting.output.write(&text(&measured?, setting)?)?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(verb: Verb, url: &DatabaseUrl, given: Option<&str>) -> Result<Vec<Figure>> {
    let session = Session { statement_timeout: Duration::from_secs(120), ..Session::named("watchbell bench") };
    let pool = db::pool_with(url, &session, 5).await?;
    crate::migrate::up(&mut *pool.acquire().await?).await?;
    note(&place(&pool).await?);
    let figures = match verb {
        Verb::Drain(args) => {
            drain::measure(&pool, drain::Drain { runs: args.runs as usize, slots: args.slots as usize, raw_batch: 500 })
                .await
        }
        Verb::Latency(args) => {
            let how =
                latency::Latency { inserts: args.inserts as usize, rate: f64::from(args.rate), asleep: args.asleep };
            latency::measure(&pool, how).await
        }
        Verb::Idle(args) => idle::measure(&pool, u64::from(args.seconds)).await,
        Verb::Takeover(args) => takeover::measure(&pool, given, args.kills).await,
        Verb::Watch(args) => watch::measure(&pool, watch::Watch { rows: args.rows, batch: args.batch }).await,
    };
    pool.close().await;
    figures
}

/// The machine and the server, in one line.
async fn place(pool: &PgPool) -> Result<String> {
    let (version, synchronous, buffers): (String, String, String) = sqlx::query_as(
        "select current_setting('server_version'), current_setting('synchronous_commit'), current_setting('shared_buffers')",
    )
    .fetch_one(pool)
    .await?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(format!(
        "watchbell {}, PostgreSQL {version} (synchronous_commit {synchronous}, shared_buffers {buffers}), {cores} cores, {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS
    ))
}

/// One line a figure: for people, or one JSON object.
fn text(figures: &[Figure], setting: &Setting) -> Result<String> {
    let mut text = String::new();
    for figure in figures {
        let line = if setting.output.is_json() {
            serde_json::to_string(figure).map_err(|e| crate::Error::io("writing JSON", e.into()))?
        } else {
            figure.to_string()
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

//! `watchbell workers`: the processes that move rows.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::output::{note, time};
use super::queue::whole_seconds;
use super::repeat::Repeat;
use super::{Setting, exit, value};
use crate::client::{self, WorkerRow};
use crate::error::{Error, Result};
use crate::nearest::did_you_mean;

/// Between two looks at a worker that drains.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the workers that have not ended, the newest first.
    List(ListArgs),
    /// Show one worker.
    Show(ShowArgs),
    /// Let workers end their runs and stop, as SIGTERM does.
    Drain(DrainArgs),
    /// Take back a drain that its worker has not seen yet (it looks once a second).
    Undrain(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Also those that ended in the last 7 days.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    repeat: Repeat,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Which worker: its number or its name.
    #[arg(value_name = "ID|NAME")]
    worker: String,
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Which workers: their numbers or names.
    #[arg(required = true, value_name = "ID|NAME")]
    workers: Vec<String>,
    /// Why; kept with the request.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until they have stopped; exit with 1 if one died instead.
    #[arg(long)]
    wait: bool,
    /// How long to wait; then exit with 124.
    #[arg(long, value_name = "DURATION", value_parser = value::any_duration, requires = "wait")]
    wait_timeout: Option<Duration>,
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    match verb {
        Verb::List(args) => list(&args, setting).await?,
        Verb::Show(args) => show(&args, setting).await?,
        Verb::Drain(args) => return drain(&args, setting).await,
        Verb::Undrain(args) => undrain(&args, setting).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &ListArgs, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    args.repeat
        .show(setting, async || {
            let rows = client::workers(&mut connection, args.all).await?;
            setting.output.list(
                &rows,
                &[
                    ("ID", |row| row.id.to_string()),
                    ("NAME", |row| row.name.clone()),
                    ("STATE", state),
                    ("RUNNING", |row| format!("{}/{}", row.running, row.slots)),
                    ("QUEUES", queues),
                    ("HANDLERS", |row| row.handlers.len().to_string()),
                    ("LABELS", |row| row.labels.join(",")),
                    ("STARTED", |row| time(Some(row.started_at))),
                    ("HEARD", |row| row.heartbeat_age.map(whole_seconds).unwrap_or_default()),
                    ("VERSION", |row| row.version.clone()),
                ],
                |row| row.id.to_string(),
            )
        })
        .await
}

/// Its state, or that it is asked to drain and has not seen it.
pub(super) fn state(row: &WorkerRow) -> String {
    match (row.state.as_str(), row.drain_requested_at) {
        ("running", Some(_)) => "running (asked to drain)".to_owned(),
        (state, _) => state.to_owned(),
    }
}

fn queues(row: &WorkerRow) -> String {
    row.queues.as_ref().map_or_else(|| "all".to_owned(), |queues| queues.join(","))
}

async fn show(args: &ShowArgs, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    let row = find(&mut connection, &args.worker, true).await?;
    let address = row.ip.as_deref().map(|ip| format!(" ({ip})")).unwrap_or_default();
    let lines = [
        ("state", state(&row)),
        ("host", format!("{}{address}, process {}", row.host, row.pid)),
        ("version", row.version.clone()),
        ("running", format!("{} of {} slots", row.running, row.slots)),
        ("queues", queues(&row)),
        ("handlers", row.handlers.join(", ")),
        ("labels", row.labels.join(", ")),
        ("started", time(Some(row.started_at))),
        ("heard", format!("{} ago", row.heartbeat_age.map(whole_seconds).unwrap_or_default())),
        ("lease until", time(Some(row.lease_until))),
        ("drain asked", time(row.drain_requested_at)),
        ("ended", time(row.ended_at)),
    ];
    let mut text = format!("worker {} {}\n", row.id, row.name);
    for (heading, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("  {heading:<12} {value}\n"));
    }
    setting.output.one(&row, &text, &row.id.to_string())
}

/// A worker by its number, or by the name of one that has not ended; `ended` takes the last of that name too.
async fn find(connection: &mut PgConnection, who: &str, ended: bool) -> Result<WorkerRow> {
    if let Ok(id) = who.parse() {
        return client::worker(connection, id).await;
    }
    let rows = client::workers(connection, ended).await?;
    let named: Vec<&WorkerRow> = rows.iter().filter(|row| row.name == who).collect();
    let live: Vec<&WorkerRow> = named.iter().copied().filter(|row| row.ended_at.is_none()).collect();
    match (live.as_slice(), named.first()) {
        ([one], _) => Ok((*one).clone()),
        ([], Some(last)) => Ok((*last).clone()),
        ([], None) => {
            let near = did_you_mean(who, rows.iter().map(|row| row.name.as_str()));
            let hint = if near.is_empty() { "; list them with: watchbell workers list".to_owned() } else { near };
            Err(Error::NotFound { kind: "worker", name: who.to_owned(), hint })
        }
        (several, _) => {
            let ids: Vec<String> = several.iter().map(|row| row.id.to_string()).collect();
            Err(Error::Conflict(format!(
                "{} workers are named \"{who}\": say which by number, {}",
                ids.len(),
                ids.join(", ")
            )))
        }
    }
}

#[derive(Serialize)]
struct Done {
    id: i32,
    name: String,
    result: &'static str,
}

async fn drain(args: &DrainArgs, setting: &Setting) -> Result<ExitCode> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let mut found = vec![];
    for who in &args.workers {
        found.push(find(&mut connection, who, false).await?);
    }
    for worker in &found {
        client::drain(&mut connection, worker.id, args.reason.as_deref()).await?;
        note(&format!("{url}: worker {} ({}) is asked to drain", worker.id, worker.name));
    }
    let code = if args.wait { wait(&mut connection, &found, args.wait_timeout).await? } else { ExitCode::SUCCESS };
    print(found, if args.wait { "awaited" } else { "asked to drain" }, setting)?;
    Ok(code)
}

/// Until all of them have ended.
async fn wait(connection: &mut PgConnection, workers: &[WorkerRow], limit: Option<Duration>) -> Result<ExitCode> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut code = ExitCode::SUCCESS;
    for worker in workers {
        loop {
            let now = client::worker(&mut *connection, worker.id).await?;
            if now.ended_at.is_some() {
                note(&format!("worker {} is {}", now.id, now.state));
                if now.state == "dead" {
                    code = ExitCode::from(exit::FAILED);
                }
                break;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                note(&format!(
                    "worker {} is {} still, with {} runs and rows; stopped waiting",
                    now.id, now.state, now.running
                ));
                return Ok(ExitCode::from(exit::TIMED_OUT));
            }
            sleep(PAUSE).await;
        }
    }
    Ok(code)
}

async fn undrain(args: &ShowArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let worker = find(&mut connection, &args.worker, false).await?;
    let withdrawn = client::undrain(&mut connection, worker.id).await?;
    let (id, name) = (worker.id, worker.name.clone());
    print(vec![worker], if withdrawn { "goes on" } else { "was not asked" }, setting)?;
    note(&match withdrawn {
        true => format!("{url}: worker {id} ({name}) goes on"),
        false => format!("{url}: worker {id} ({name}) was not asked to drain"),
    });
    Ok(())
}

fn print(workers: Vec<WorkerRow>, result: &'static str, setting: &Setting) -> Result<()> {
    let done: Vec<Done> = workers.into_iter().map(|row| Done { id: row.id, name: row.name, result }).collect();
    setting.output.list(
        &done,
        &[
            ("ID", |done| done.id.to_string()),
            ("NAME", |done| done.name.clone()),
            ("RESULT", |done| done.result.to_owned()),
        ],
        |done| done.id.to_string(),
    )
}

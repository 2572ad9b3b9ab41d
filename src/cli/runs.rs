//! `watchbell runs`: occurrences of work.

mod logs;
mod retry;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Setting;
use super::output::{note, optional, time};
use super::repeat::Repeat;
use super::{value, wait};
use crate::client::{self, Cancelled, RunError, RunRow, Runs};
use crate::duration;
use crate::error::Result;
use crate::run::{RunId, Status};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List runs, the newest first.
    List(ListArgs),
    /// Show one run with everything about it, its errors and the end of its output, as JSON.
    Show(ShowArgs),
    /// What a run printed, byte for byte.
    Logs(logs::LogsArgs),
    /// Wait until runs are over: 0 if all ended well, 1 if one did not, 124 if the time is up.
    Wait(WaitArgs),
    /// Try again what has ended, as new runs.
    Retry(retry::RetryArgs),
    /// Cancel runs; those that run are asked to stop.
    Cancel(CancelArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only with this status: pending, running, normal, failed or cancelled.
    #[arg(long, value_parser = |text: &str| text.parse::<Status>().map_err(|_| {
        "must be one of pending, running, normal, failed, cancelled".to_owned()
    }))]
    status: Option<Status>,
    /// Only of this handler.
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Only of this queue.
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Only of the schedule of this name.
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// How many at most, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = value::number(1..=1000))]
    limit: u32,
    /// Only older ones than this: the last of the page before.
    #[arg(long, value_name = "ID", value_parser = value::run_id)]
    before: Option<RunId>,
    #[command(flatten)]
    repeat: Repeat,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Which run.
    #[arg(value_parser = value::run_id)]
    id: RunId,
}

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Which runs.
    #[arg(required = true, value_name = "ID", value_parser = value::run_id)]
    ids: Vec<RunId>,
    /// How long to wait for all of them; then exit with 124.
    #[arg(long, value_name = "DURATION", value_parser = value::any_duration)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// Which runs.
    #[arg(required = true, value_name = "ID", value_parser = value::run_id)]
    ids: Vec<RunId>,
    /// Why; kept with each run.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    match verb {
        Verb::List(args) => list(args, setting).await?,
        Verb::Show(args) => show(args.id, setting).await?,
        Verb::Logs(args) => logs::run(args, setting).await?,
        Verb::Wait(args) => {
            let mut connection = setting.connect(&setting.database()?).await?;
            return wait::wait(&mut connection, &args.ids, args.timeout).await;
        }
        Verb::Retry(args) => retry::run(args, setting).await?,
        Verb::Cancel(args) => cancel(args, setting).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A run with what happened to it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    row: RunRow,
    errors: Vec<RunError>,
    /// The last lines.
    output_end: Vec<String>,
}

async fn show(id: RunId, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    let row = client::run(&mut connection, id).await?;
    let errors = client::run_errors(&mut connection, id).await?;
    let output_end = client::end_of_output(&mut connection, id).await?.lines().map(str::to_owned).collect();
    let shown = Shown { row, errors, output_end };
    let text = serde_json::to_string_pretty(&shown).unwrap_or_default();
    setting.output.one(&shown, &text, &id.to_string())
}

async fn list(args: ListArgs, setting: &Setting) -> Result<()> {
    let mut page = Runs::new().limit(args.limit);
    if let Some(status) = args.status {
        page = page.status(status);
    }
    if let Some(name) = args.handler {
        page = page.handler(name);
    }
    if let Some(name) = args.queue {
        page = page.queue(name);
    }
    if let Some(name) = args.schedule {
        page = page.schedule(name);
    }
    if let Some(id) = args.before {
        page = page.before(id);
    }
    let mut connection = setting.connect(&setting.database()?).await?;
    args.repeat
        .show(setting, async || {
            let rows = page.fetch(&mut connection).await?;
            print(&rows, setting)?;
            if let Some(last) = rows.last().filter(|_| rows.len() == args.limit as usize) {
                note(&format!("there may be more: --before {}", last.id));
            }
            Ok(())
        })
        .await
}

fn print(rows: &[RunRow], setting: &Setting) -> Result<()> {
    setting.output.list(
        rows,
        &[
            ("ID", |row| row.id.to_string()),
            ("STATUS", |row| row.status.to_string()),
            ("HANDLER", |row| row.handler.clone()),
            ("QUEUE", |row| row.queue.clone()),
            ("SCHEDULE", |row| optional(&row.schedule_name)),
            ("DUE", |row| time(Some(row.run_at))),
            ("STARTED", |row| time(row.started_at)),
            ("TOOK", took),
            ("ATTEMPT", |row| format!("{}/{}", row.attempt, row.max_attempts)),
            ("ERROR", |row| optional(&row.error).chars().take(80).collect()),
        ],
        |row| row.id.to_string(),
    )
}

fn took(row: &RunRow) -> String {
    let took = row.started_at.zip(row.finished_at).map(|(from, to)| to - from);
    took.map(duration::words).unwrap_or_default()
}

#[derive(Serialize)]
struct Answer {
    id: RunId,
    result: &'static str,
}

/// Each run by itself: one that cannot be cancelled does not hold up the others.
async fn cancel(args: CancelArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let mut answers = Vec::new();
    let mut refused = None;
    for id in args.ids {
        match client::cancel(&mut connection, id, args.reason.as_deref()).await {
            Ok(done) => answers.push(Answer { id, result: word(done) }),
            Err(error) => {
                if let Some(earlier) = refused.replace(error) {
                    note(&format!("error: {earlier}"));
                }
            }
        }
    }
    if !answers.is_empty() {
        let columns: &[super::output::Column<Answer>] =
            &[("ID", |answer| answer.id.to_string()), ("RESULT", |answer| answer.result.to_owned())];
        setting.output.list(&answers, columns, |answer| answer.id.to_string())?;
    }
    let over = answers.iter().filter(|answer| answer.result == word(Cancelled::Finished)).count();
    let was_over = if over == 0 { String::new() } else { format!("; over before: {over}") };
    note(&format!("{url}: runs cancelled or asked to stop: {}{was_over}", answers.len() - over));
    refused.map_or(Ok(()), Err)
}

fn word(done: Cancelled) -> &'static str {
    match done {
        Cancelled::Waiting => "cancelled",
        Cancelled::Requested => "asked to stop",
        Cancelled::Finished => "was over",
    }
}

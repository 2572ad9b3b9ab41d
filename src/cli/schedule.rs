//! `watchbell schedule`: what to do and when.

use std::process::ExitCode;

use chrono::TimeDelta;
use clap::{Args, Subcommand};

use super::Setting;
use super::output::{note, optional, time};
use super::value;
use crate::client::{ScheduleRow, Schedules};
use crate::duration;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List schedules by name.
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only with this status.
    #[arg(long, value_parser = ["pending", "normal", "done", "invalid"])]
    status: Option<String>,
    /// Only of this handler.
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Only of this queue.
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// How many at most, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = value::number(1..=1000))]
    limit: u32,
    /// Only those after this name: the last of the page before.
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    match verb {
        Verb::List(args) => list(args, setting).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: ListArgs, setting: &Setting) -> Result<()> {
    let mut page = Schedules::new().limit(args.limit);
    if let Some(status) = args.status {
        page = page.status(status);
    }
    if let Some(name) = args.handler {
        page = page.handler(name);
    }
    if let Some(name) = args.queue {
        page = page.queue(name);
    }
    if let Some(name) = args.after {
        page = page.after(name);
    }
    let mut connection = setting.connect(&setting.database()?).await?;
    let rows = page.fetch(&mut connection).await?;
    setting.output.list(
        &rows,
        &[
            ("NAME", |row| row.name.clone()),
            ("KIND", |row| row.kind.clone()),
            ("SPEC", ScheduleRow::spec),
            ("NEXT", |row| time(row.next_fire_at)),
            ("IN", |row| row.fires_in.map(whole_seconds).unwrap_or_default()),
            ("LAST", |row| time(row.last_started_at)),
            ("TOOK", |row| row.last_duration.map(duration::words).unwrap_or_default()),
            ("STATUS", |row| if row.paused_at.is_some() { "paused".to_owned() } else { row.status.clone() }),
            ("FAILS", |row| row.consecutive_failures.to_string()),
            ("HANDLER", |row| row.handler.clone()),
            ("ERROR", |row| optional(&row.error).chars().take(80).collect()),
        ],
        |row| row.name.clone(),
    )?;
    if let Some(last) = rows.last().filter(|_| rows.len() == args.limit as usize) {
        note(&format!("there may be more: --after {}", last.name));
    }
    Ok(())
}

fn whole_seconds(duration: TimeDelta) -> String {
    duration::words(TimeDelta::seconds(duration.num_seconds()))
}

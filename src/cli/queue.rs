//! `watchbell queue`: what waits where, and whether it may start.

use std::process::ExitCode;

use chrono::TimeDelta;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Setting;
use super::output::{note, optional, time};
use super::repeat::Repeat;
use crate::client::{self, QueueRow};
use crate::duration;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List queues by name, with what waits in them.
    List(ListArgs),
    /// List concurrency keys: how many of their runs run, and how many may.
    Limits(ListArgs),
    /// Stop workers from starting runs of it, within a second; running ones go on.
    Pause(PauseArgs),
    /// Let workers start runs of it again.
    Resume(ResumeArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    repeat: Repeat,
}

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// Which queue; made if it does not exist.
    name: String,
    /// Why; kept with it.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// Which queue.
    name: String,
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    match verb {
        Verb::List(args) => list(&args, setting).await?,
        Verb::Limits(args) => limits(&args, setting).await?,
        Verb::Pause(args) => pause(&args, setting).await?,
        Verb::Resume(args) => resume(&args, setting).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &ListArgs, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    args.repeat
        .show(setting, async || {
            let rows = client::queues(&mut connection).await?;
            setting.output.list(
                &rows,
                &[
                    ("NAME", |row| row.name.clone()),
                    ("PENDING", |row| counted(row, row.ready)),
                    ("LATER", |row| counted(row, row.later)),
                    ("RUNNING", |row| counted(row, row.running)),
                    ("OLDEST", |row| row.oldest_waits_for.map(whole_seconds).unwrap_or_default()),
                    ("PAUSED", |row| time(row.paused_at)),
                    ("BY", |row| optional(&row.paused_by)),
                    ("NOTE", |row| optional(&row.pause_note)),
                ],
                |row| row.name.clone(),
            )
        })
        .await
}

/// At most 10,000 open runs are looked at; then it is at least this many.
pub(super) fn counted(row: &QueueRow, n: i64) -> String {
    if row.capped { format!("{n}+") } else { n.to_string() }
}

pub(super) fn whole_seconds(duration: TimeDelta) -> String {
    duration::words(TimeDelta::seconds(duration.num_seconds()))
}

async fn limits(args: &ListArgs, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    args.repeat
        .show(setting, async || {
            let rows = client::limits(&mut connection).await?;
            setting.output.list(
                &rows,
                &[
                    ("KEY", |row| row.key.clone()),
                    ("RUNNING", |row| row.running.to_string()),
                    ("LIMIT", |row| row.max_running.to_string()),
                ],
                |row| row.key.clone(),
            )
        })
        .await
}

#[derive(Serialize)]
struct Done<'a> {
    name: &'a str,
    paused: bool,
}

async fn pause(args: &PauseArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    client::pause_queue(&mut connection, &args.name, args.note.as_deref()).await?;
    setting.output.one(&Done { name: &args.name, paused: true }, &args.name, &args.name)?;
    note(&format!("{url}: queue \"{0}\" is paused; resume it with: watchbell queue resume {0}", args.name));
    Ok(())
}

async fn resume(args: &ResumeArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    client::resume_queue(&mut connection, &args.name).await?;
    setting.output.one(&Done { name: &args.name, paused: false }, &args.name, &args.name)?;
    note(&format!("{url}: queue \"{}\" is resumed", args.name));
    Ok(())
}

//! `watchbell watch`: tables of people's own whose rows are the queue.

mod add;
mod definition;
mod show;
mod steer;
mod test;
mod wake;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output::{note, optional, time};
use super::repeat::Repeat;
use super::{Setting, value};
use crate::client::{WatchRow, Watches};
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Watch a table: rows in one state are handled and moved to another.
    Add(Box<add::AddArgs>),
    /// List watches by name.
    List(ListArgs),
    /// Show one: its states and handlers, how many rows stand where, what is missing and what failed.
    Show(show::ShowArgs),
    /// Say what a worker would take and how it would find it; nothing is taken.
    Test(test::TestArgs),
    /// Change what is given, and nothing else; rows in work end as they were taken.
    Edit(Box<add::EditArgs>),
    /// Take no more rows of it; those in work go on.
    Pause(steer::PauseArgs),
    /// Take rows of it again.
    Resume(steer::ResumeArgs),
    /// Put rows that failed back to where they failed.
    Retry(steer::RetryArgs),
    /// Put rows that stand at a via state although no worker has them back to where they came from.
    Release(steer::RetryArgs),
    /// Have new rows wake sleeping workers at once, by a trigger on the table, or no more.
    Wake(wake::WakeArgs),
    /// Delete watches; the rows of their tables stay as they are.
    Remove(steer::RemoveArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only with this status.
    #[arg(long, value_parser = ["pending", "normal", "invalid"])]
    status: Option<String>,
    /// How many at most, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = value::number(1..=1000))]
    limit: u32,
    /// Only those after this name: the last of the page before.
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
    #[command(flatten)]
    repeat: Repeat,
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    match verb {
        Verb::Add(args) => add::add(*args, setting).await?,
        Verb::List(args) => list(args, setting).await?,
        Verb::Show(args) => show::show(args, setting).await?,
        Verb::Test(args) => test::test(args, setting).await?,
        Verb::Edit(args) => add::edit(*args, setting).await?,
        Verb::Pause(args) => steer::pause(args, setting).await?,
        Verb::Resume(args) => steer::resume(args, setting).await?,
        Verb::Retry(args) => steer::retry(args, setting).await?,
        Verb::Release(args) => steer::release(args, setting).await?,
        Verb::Wake(args) => wake::wake(args, setting).await?,
        Verb::Remove(args) => steer::remove(args, setting).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: ListArgs, setting: &Setting) -> Result<()> {
    let mut page = Watches::new().limit(args.limit);
    if let Some(status) = args.status {
        page = page.status(status);
    }
    if let Some(name) = args.after {
        page = page.after(name);
    }
    let mut connection = setting.connect(&setting.database()?).await?;
    args.repeat
        .show(setting, async || {
            let rows = page.fetch(&mut connection).await?;
            print(&rows, setting)?;
            if let Some(last) = rows.last().filter(|_| rows.len() == args.limit as usize) {
                note(&format!("there may be more: --after {}", last.name));
            }
            Ok(())
        })
        .await
}

fn print(rows: &[WatchRow], setting: &Setting) -> Result<()> {
    setting.output.list(
        rows,
        &[
            ("NAME", |row| row.name.clone()),
            ("TABLE", |row| row.table_name.clone()),
            ("STATES", states),
            ("STATUS", |row| state(row).to_owned()),
            ("WORKING", |row| counted(row, row.in_work)),
            ("RETRYING", |row| counted(row, row.waiting)),
            ("MOVED ON", |row| row.done.to_string()),
            ("GIVEN UP", |row| row.failed.to_string()),
            ("LAST", |row| time(row.last_at)),
            ("ERROR", |row| optional(&row.error).chars().take(80).collect()),
        ],
        |row| row.name.clone(),
    )
}

/// The state of the watch itself, not of its rows.
fn state(row: &WatchRow) -> &str {
    if row.paused_at.is_some() { "paused" } else { &row.status }
}

/// The way of a row that succeeds, as far as the steps follow one another.
fn states(row: &WatchRow) -> String {
    let mut text = String::new();
    let mut at: Option<&str> = None;
    for step in &row.steps {
        match at {
            Some(state) if state == step.from => {}
            Some(_) => text.push_str(&format!(", {}", step.from)),
            None => text.push_str(&step.from),
        }
        text.push_str(&format!(" -> {}", step.to));
        at = Some(&step.to);
    }
    text
}

/// At most 10,000 claims are looked at; then it is at least this many.
fn counted(row: &WatchRow, n: i64) -> String {
    if row.capped { format!("{n}+") } else { n.to_string() }
}

//! `watchbell watch pause`, `resume`, `retry`, `release` and `remove`.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use super::show::find;
use super::wake::left_behind;
use crate::cli::confirm::confirm;
use crate::cli::output::{note, time};
use crate::cli::{Setting, value};
use crate::client;
use crate::error::Result;

#[derive(Debug, Args)]
pub(in crate::cli) struct PauseArgs {
    /// Which watch.
    name: String,
    /// Why; kept with it.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Until this time; else until it is resumed.
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    until: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ResumeArgs {
    /// Which watch.
    name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RetryArgs {
    /// Which watch.
    name: String,
    /// Only the row with this key; for a key of several columns given as often, in their order.
    #[arg(long, value_name = "VALUE")]
    key: Vec<String>,
    /// How many rows at most.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value::number(1..=100_000))]
    max: u32,
    /// Do not ask; with --key nothing is asked.
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RemoveArgs {
    /// Which watch.
    name: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// What was done to a watch.
#[derive(Serialize)]
struct Done<'a> {
    name: &'a str,
    result: &'static str,
}

impl Done<'_> {
    fn print(&self, setting: &Setting) -> Result<()> {
        setting.output.one(self, self.name, self.name)
    }
}

pub(super) async fn pause(args: PauseArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    client::pause_watch(&mut connection, &args.name, args.note.as_deref(), args.until).await?;
    Done { name: &args.name, result: "paused" }.print(setting)?;
    let until = args.until.map(|at| format!(" until {}", time(Some(at)))).unwrap_or_default();
    note(&format!("{url}: watch \"{0}\" is paused{until}; resume it with: watchbell watch resume {0}", args.name));
    Ok(())
}

pub(super) async fn resume(args: ResumeArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    client::resume_watch(&mut connection, &args.name).await?;
    Done { name: &args.name, result: "resumed" }.print(setting)?;
    note(&format!("{url}: watch \"{}\" is resumed", args.name));
    Ok(())
}

#[derive(Serialize)]
struct Moved<'a> {
    name: &'a str,
    rows: i64,
}

pub(super) async fn retry(args: RetryArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let rows = if args.key.is_empty() {
        confirm(args.yes, &format!("try up to {} failed rows of watch \"{}\" of {url} again", args.max, args.name))?;
        client::retry_watch(&mut connection, &args.name, args.max.cast_signed()).await?
    } else {
        let key: Vec<&str> = args.key.iter().map(String::as_str).collect();
        i64::from(client::retry_watched_row(&mut connection, &args.name, &key).await?)
    };
    setting.output.one(&Moved { name: &args.name, rows }, &rows.to_string(), &args.name)?;
    note(&match (rows, args.key.is_empty()) {
        (0, false) => format!("{url}: nothing is changed: that row has not failed, or somebody has it locked"),
        (1, _) => format!("{url}: 1 row of watch \"{}\" is tried again", args.name),
        _ => format!("{url}: {rows} rows of watch \"{}\" are tried again", args.name),
    });
    Ok(())
}

pub(super) async fn release(args: RetryArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let rows = if args.key.is_empty() {
        client::release_rows(&mut connection, &args.name, args.max.cast_signed()).await?
    } else {
        let key: Vec<&str> = args.key.iter().map(String::as_str).collect();
        i64::from(client::release_row(&mut connection, &args.name, &key).await?)
    };
    setting.output.one(&Moved { name: &args.name, rows }, &rows.to_string(), &args.name)?;
    note(&format!("{url}: {rows} rows of watch \"{}\" that no worker had are taken anew", args.name));
    Ok(())
}

pub(super) async fn remove(args: RemoveArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    confirm(args.yes, &format!("delete watch \"{}\" of {url}", args.name))?;
    let mut connection = setting.connect(&url).await?;
    let row = find(&mut connection, &args.name).await?;
    client::unwatch(&mut connection, &args.name).await?;
    Done { name: &args.name, result: "deleted" }.print(setting)?;
    note(&format!("{url}: watch \"{}\" is deleted; the rows of its table stay", args.name));
    if row.in_work > 0 {
        let rows = row.in_work;
        note(&format!(
            "warning: {rows} rows are in work: they end as if it were there, or go back if their worker dies"
        ));
    }
    if let Some(statement) = left_behind(&mut connection, &row).await? {
        note(&format!("warning: its trigger stays on {}, whose owner can remove it: {statement}", row.table_name));
    }
    Ok(())
}

//! `watchbell runs retry`: again what has ended, by number or all that failed.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use crate::cli::confirm::confirm;
use crate::cli::output::{note, optional, time};
use crate::cli::{Setting, value};
use crate::client::{self, Failed};
use crate::error::Result;
use crate::run::RunId;

#[derive(Debug, Args)]
pub(in crate::cli) struct RetryArgs {
    /// Which runs; each must have ended.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID", value_parser = value::run_id)]
    ids: Vec<RunId>,
    /// All that failed and were not tried again yet.
    #[arg(long)]
    all: bool,
    /// Of them only those of this handler.
    #[arg(long, value_name = "NAME", requires = "all")]
    handler: Option<String>,
    /// Of them only those of this queue.
    #[arg(long, value_name = "NAME", requires = "all")]
    queue: Option<String>,
    /// Of them only those of this schedule.
    #[arg(long, value_name = "NAME", requires = "all")]
    schedule: Option<String>,
    /// Only what failed since then: a time, or so long ago, such as 2h [default: 1d].
    #[arg(long, value_name = "TIME|DURATION", requires = "all", value_parser = value::since)]
    since: Option<value::Since>,
    /// How many at most, the oldest first, 1 to 10000.
    #[arg(long, value_name = "N", requires = "all", default_value_t = 1000, value_parser = value::number(1..=10_000))]
    max: u32,
    /// Only list what would be tried again.
    #[arg(long, requires = "all")]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Retried {
    id: RunId,
    retry_of: RunId,
}

pub(super) async fn run(args: RetryArgs, setting: &Setting) -> Result<()> {
    if args.all { all(args, setting).await } else { some(args.ids, setting).await }
}

/// Each by itself: one that cannot be tried again does not hold up the others.
async fn some(ids: Vec<RunId>, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let (mut done, mut refused) = (vec![], None);
    for retry_of in ids {
        match client::retry(&mut connection, retry_of).await {
            Ok(id) => done.push(Retried { id, retry_of }),
            Err(error) => {
                if let Some(earlier) = refused.replace(error) {
                    note(&format!("error: {earlier}"));
                }
            }
        }
    }
    if !done.is_empty() {
        setting.output.list(
            &done,
            &[("ID", |run| run.id.to_string()), ("RETRY OF", |run| run.retry_of.to_string())],
            |run| run.id.to_string(),
        )?;
    }
    note(&format!("{url}: runs tried again: {}", done.len()));
    refused.map_or(Ok(()), Err)
}

#[derive(Serialize)]
struct Count {
    runs: u32,
}

async fn all(args: RetryArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let mut failed = Failed::new().max(args.max);
    if let Some(name) = args.handler {
        failed = failed.handler(name);
    }
    if let Some(name) = args.queue {
        failed = failed.queue(name);
    }
    if let Some(name) = args.schedule {
        failed = failed.schedule(name);
    }
    if let Some(since) = args.since {
        // the database's clock decides what is so long ago
        let now: DateTime<Utc> = sqlx::query_scalar("select now()").fetch_one(&mut connection).await?;
        failed = failed.since(since.at(now));
    }
    if args.dry_run || !args.yes {
        let rows = failed.fetch(&mut connection).await?;
        if !args.dry_run {
            confirm(false, &format!("try {} failed runs again in {url}", rows.len()))?;
        } else {
            note(&format!("{url}: {} runs would be tried again", rows.len()));
            return setting.output.list(
                &rows,
                &[
                    ("ID", |row| row.id.to_string()),
                    ("HANDLER", |row| row.handler.clone()),
                    ("SCHEDULE", |row| optional(&row.schedule_name)),
                    ("ENDED", |row| time(row.finished_at)),
                    ("ERROR", |row| optional(&row.error).chars().take(80).collect()),
                ],
                |row| row.id.to_string(),
            );
        }
    }
    let runs = failed.retry(&mut connection).await?;
    setting.output.one(&Count { runs }, &runs.to_string(), &runs.to_string())?;
    note(&format!("{url}: runs tried again: {runs}"));
    Ok(())
}

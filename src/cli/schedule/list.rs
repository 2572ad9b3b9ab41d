//! `watchbell schedule list`: what there is, what comes next, and how the last run ended.

use chrono::TimeDelta;
use clap::Args;

use super::show::coming;
use crate::cli::output::{note, optional, time};
use crate::cli::repeat::Repeat;
use crate::cli::{Setting, value};
use crate::client::{ScheduleRow, Schedules};
use crate::duration;
use crate::error::Result;

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
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
    #[command(flatten)]
    repeat: Repeat,
}

pub(super) async fn list(args: ListArgs, setting: &Setting) -> Result<()> {
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

/// NEXT tells the schedule's own state where no time does; LAST, TOOK, STATUS and FAILS are of its runs.
fn print(rows: &[ScheduleRow], setting: &Setting) -> Result<()> {
    setting.output.list(
        rows,
        &[
            ("NAME", |row| row.name.clone()),
            ("KIND", |row| row.kind.clone()),
            ("SPEC", ScheduleRow::spec),
            ("NEXT", coming),
            ("IN", fires_in),
            ("LAST", |row| time(row.last_finished_at)),
            ("TOOK", |row| row.last_duration.map(duration::words).unwrap_or_default()),
            ("STATUS", |row| optional(&row.last_status)),
            ("FAILS", |row| row.consecutive_failures.to_string()),
            ("HANDLER", |row| row.handler.clone()),
            ("ERROR", |row| optional(&row.error).chars().take(80).collect()),
        ],
        |row| row.name.clone(),
    )
}

fn fires_in(row: &ScheduleRow) -> String {
    let seconds = |duration: TimeDelta| duration::words(TimeDelta::seconds(duration.num_seconds()));
    row.fires_in.filter(|_| row.paused_at.is_none()).map(seconds).unwrap_or_default()
}

//! `watchbell handlers`: who serves what, and what nobody serves.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use sqlx::PgConnection;

use super::Setting;
use super::output::{note, time};
use super::queue::whole_seconds;
use super::repeat::Repeat;
use crate::client::{self, HandlerRow};
use crate::error::Result;
use crate::nearest::did_you_mean;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List handlers by name: which workers serve them, and what waits for them.
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only those that something waits for and no worker serves.
    #[arg(long)]
    unserved: bool,
    #[command(flatten)]
    repeat: Repeat,
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    let Verb::List(args) = verb;
    let mut connection = setting.connect(&setting.database()?).await?;
    args.repeat
        .show(setting, async || {
            let mut rows = client::handlers(&mut connection).await?;
            if args.unserved {
                rows.retain(is_unserved);
            }
            setting.output.list(
                &rows,
                &[
                    ("NAME", |row| row.name.clone()),
                    ("WORKERS", |row| row.workers.join(",")),
                    ("SCHEDULES", |row| row.schedules.to_string()),
                    ("WAITING", |row| row.waiting.to_string()),
                    ("OLDEST", |row| row.oldest_waits_for.map(whole_seconds).unwrap_or_default()),
                    ("LAST SEEN", |row| time(row.last_seen_at)),
                    ("REMARK", remark),
                ],
                |row| row.name.clone(),
            )
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

fn is_unserved(row: &HandlerRow) -> bool {
    row.workers.is_empty() && (row.waiting > 0 || row.schedules > 0)
}

fn remark(row: &HandlerRow) -> String {
    let remark = match (is_unserved(row), row.first_seen_at) {
        (true, None) => "no worker has ever registered it",
        (true, Some(_)) => "no worker serves it now",
        _ => "",
    };
    remark.to_owned()
}

/// Says so if no worker has ever registered it: it may be mistyped, or its worker not there yet.
///
/// To be called before the row is written: the database would say it once more, which is then switched off.
pub(super) async fn warn_if_unknown(connection: &mut PgConnection, handler: &str) {
    // a role that may not read the list is not told
    let Ok(known) = client::known_handlers(&mut *connection).await else { return };
    let quiet = sqlx::query("set client_min_messages = error").execute(connection).await;
    drop(quiet); // said twice is no harm
    if known.iter().any(|name| name == handler) {
        return;
    }
    let near = did_you_mean(handler, known.iter().map(String::as_str));
    let next = if near.is_empty() { "; see: watchbell handlers list" } else { "" };
    note(&format!("warning: no worker has ever registered handler \"{handler}\", so it will wait{near}{next}"));
}

//! `watchbell watch wake`: the trigger by which sleeping workers learn of new rows at once.

use clap::Args;
use serde::Serialize;
use sqlx::PgConnection;

use super::show::find;
use crate::cli::Setting;
use crate::cli::output::note;
use crate::client::{self, WatchRow};
use crate::db::Named;
use crate::error::Result;

#[derive(Debug, Args)]
pub(in crate::cli) struct WakeArgs {
    /// Which watch.
    name: String,
    /// Take the trigger from the table again: new rows are seen at the next look.
    #[arg(long)]
    off: bool,
}

#[derive(Serialize)]
struct Wakes<'a> {
    name: &'a str,
    wakes: bool,
    changed: bool,
}

pub(super) async fn wake(args: WakeArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let row = find(&mut connection, &args.name).await?;
    let changed = if args.off {
        client::unwake_watch(&mut connection, &args.name).await?
    } else {
        client::wake_watch(&mut connection, &args.name).await?
    };
    setting.output.one(&Wakes { name: &args.name, wakes: !args.off, changed }, &args.name, &args.name)?;
    note(&match (args.off, changed) {
        (false, true) => format!("{url}: new rows of {} wake workers at once", row.table_name),
        (false, false) => format!("{url}: {} had its trigger already", row.table_name),
        (true, true) => format!("{url}: new rows of {} are seen at the next look", row.table_name),
        (true, false) => format!("{url}: {} had no trigger", row.table_name),
    });
    Ok(())
}

/// The statement that takes away the trigger of a watch that is gone, if it is still there and nobody wants it.
pub(super) async fn left_behind(connection: &mut PgConnection, gone: &WatchRow) -> Result<Option<String>> {
    let left = sqlx::query_scalar(include_str!("../../sql/client/wake_left.sql"));
    left.bind(&gone.table_name).bind(&gone.status_column).fetch_optional(connection).await.named()
}

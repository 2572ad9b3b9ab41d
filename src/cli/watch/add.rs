//! `watchbell watch add` and `edit`: a new watch, and a patch of one; what is still missing for it.

use clap::Args;
use sqlx::PgConnection;

use super::definition::{Definition, columns_of};
use super::show::{find, missing_indexes, summary};
use crate::cli::Setting;
use crate::cli::handlers::warn_if_unknown;
use crate::cli::output::note;
use crate::client::{self, WatchEdit};
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(in crate::cli) struct AddArgs {
    /// Its name: letters, digits and . _ : -
    name: String,
    /// The table, as in SQL: public.hosts
    table: String,
    /// What does the work; left out with --steps.
    handler: Option<String>,
    #[command(flatten)]
    definition: Definition,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EditArgs {
    /// Which watch.
    name: String,
    /// Another handler.
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Another table; what is known of rows that wait is forgotten.
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Another name.
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// Back to the default, or to none: --unset filter; may be given several times.
    #[arg(long, value_name = "OPTION")]
    unset: Vec<String>,
    #[command(flatten)]
    definition: Definition,
}

pub(super) async fn add(args: AddArgs, setting: &Setting) -> Result<()> {
    let (name, wake) = (args.name, args.definition.wake);
    if args.handler.is_none() && args.definition.steps.is_none() {
        let problem = "needs a handler, or several steps: --steps @steps.json";
        return Err(Error::invalid(format!("watch \"{name}\""), problem));
    }
    let mut edit = WatchEdit::of(&name).set("table_name", args.table);
    if let Some(handler) = args.handler {
        edit = edit.set("handler", handler);
    }
    let edit = args.definition.write(edit)?;
    edit.check()?;
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    for handler in edit.handlers() {
        warn_if_unknown(&mut connection, &handler).await;
    }
    edit.insert(&mut connection).await?;
    print(&mut connection, &name, setting).await?;
    note(&format!("{url}: watch \"{name}\" is added"));
    finish(&mut connection, &name, wake).await
}

pub(super) async fn edit(args: EditArgs, setting: &Setting) -> Result<()> {
    let (name, wake) = (args.name, args.definition.wake);
    let mut edit = WatchEdit::of(&name);
    for column in args.unset.iter().flat_map(|option| columns_of(option)) {
        edit = edit.unset(column);
    }
    for (column, value) in [("handler", args.handler), ("table_name", args.table), ("name", args.rename.clone())] {
        if let Some(value) = value {
            edit = edit.set(column, value);
        }
    }
    let edit = args.definition.write(edit)?;
    if edit.is_empty() && !wake {
        let problem = "nothing to change was given; see: watchbell watch edit --help";
        return Err(Error::invalid(format!("watch \"{name}\""), problem));
    }
    edit.check()?;
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let before = find(&mut connection, &name).await?;
    for handler in edit.handlers() {
        warn_if_unknown(&mut connection, &handler).await;
    }
    let version = edit.apply(&mut connection).await?;
    let name = args.rename.unwrap_or(name);
    print(&mut connection, &name, setting).await?;
    note(&match version == before.version {
        true => format!("{url}: watch \"{name}\" was like that already"),
        false => format!("{url}: watch \"{name}\" is changed, version {version}"),
    });
    finish(&mut connection, &name, wake).await
}

/// The way of its rows.
async fn print(connection: &mut PgConnection, name: &str, setting: &Setting) -> Result<()> {
    let row = find(connection, name).await?;
    setting.output.one(&row, &summary(&row), name)
}

/// Says what is still missing, and makes the trigger that was asked for.
async fn finish(connection: &mut PgConnection, name: &str, wake: bool) -> Result<()> {
    for statement in missing_indexes(connection, name).await? {
        note(&format!("warning: an index is missing, without which workers read all of the table: {statement}"));
    }
    if wake {
        client::wake_watch(connection, name).await?;
    }
    Ok(())
}

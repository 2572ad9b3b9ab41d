//! `watchbell schedule add` and `edit`: a new definition, and a patch of one.

use clap::Args;
use serde_json::Value;
use sqlx::PgConnection;

use super::definition::Definition;
use super::show::{find, summary};
use crate::cli::Setting;
use crate::cli::handlers::warn_if_unknown;
use crate::cli::output::note;
use crate::client::{ScheduleEdit, ScheduleRow};
use crate::clock;
use crate::error::{Error, Result};
use crate::schedule::{Dst, explain};

#[derive(Debug, Args)]
pub(in crate::cli) struct AddArgs {
    /// Its name: letters, digits and . _ : -
    name: String,
    /// Who does the work.
    #[arg(required_unless_present = "handler_by_name")]
    handler: Option<String>,
    /// The same, as `schedule edit` takes it.
    #[arg(long = "handler", value_name = "NAME", hide = true, conflicts_with = "handler")]
    handler_by_name: Option<String>,
    #[command(flatten)]
    definition: Definition,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EditArgs {
    /// Which schedule.
    name: String,
    /// Another handler.
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Another name.
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// Back to the default, or to none: --unset timeout; may be given several times.
    #[arg(long, value_name = "OPTION")]
    unset: Vec<String>,
    #[command(flatten)]
    definition: Definition,
}

pub(super) async fn add(args: AddArgs, setting: &Setting) -> Result<()> {
    if !args.definition.has_time() {
        let problem = "needs a time: --cron '0 2 * * *', --every 30s, --delay 5m or --at 2031-02-03T04:05:06Z";
        return Err(Error::invalid(format!("schedule \"{}\"", args.name), problem));
    }
    can_fire(&args.name, args.definition.cron.as_deref(), args.definition.timezone.as_deref().unwrap_or("UTC"))?;
    let handler = args.handler.or(args.handler_by_name).unwrap_or_default(); // one of them is required
    let edit = ScheduleEdit::of(&args.name).set("handler", &handler);
    let edit = args.definition.write(edit)?;
    edit.check()?;
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    warn_if_unknown(&mut connection, &handler).await;
    edit.insert(&mut connection).await?;
    warn_of_no_statement(&print(&mut connection, &args.name, setting).await?);
    note(&format!("{url}: schedule \"{}\" is added", args.name));
    Ok(())
}

pub(super) async fn edit(args: EditArgs, setting: &Setting) -> Result<()> {
    let mut edit = ScheduleEdit::of(&args.name);
    for option in &args.unset {
        let column = match option.trim_start_matches('-').replace('-', "_").as_str() {
            "tag" => "tags".to_owned(),
            column => column.to_owned(),
        };
        edit = edit.unset(column);
    }
    if let Some(handler) = &args.handler {
        edit = edit.set("handler", handler);
    }
    if let Some(name) = &args.rename {
        edit = edit.set("name", name);
    }
    let (cron, timezone) = (args.definition.cron.clone(), args.definition.timezone.clone());
    let edit = args.definition.write(edit)?;
    if edit.is_empty() {
        let problem = "nothing to change was given; see: watchbell schedule edit --help";
        return Err(Error::invalid(format!("schedule \"{}\"", args.name), problem));
    }
    edit.check()?;
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let before = find(&mut connection, &args.name).await?;
    can_fire(&args.name, cron.as_deref(), timezone.as_deref().unwrap_or(&before.timezone))?;
    if let Some(handler) = &args.handler {
        warn_if_unknown(&mut connection, handler).await;
    }
    let version = edit.apply(&mut connection).await?;
    let name = args.rename.as_deref().unwrap_or(&args.name);
    let after = print(&mut connection, name, setting).await?;
    if args.handler.is_some() {
        warn_of_no_statement(&after);
    }
    note(&match version == before.version {
        true => format!("{url}: schedule \"{name}\" was like that already"),
        false => format!("{url}: schedule \"{name}\" is changed, version {version}"),
    });
    Ok(())
}

/// Refuses an expression that no date ever matches: a worker would find out only later.
fn can_fire(name: &str, cron: Option<&str>, timezone: &str) -> Result<()> {
    let Some(expression) = cron else { return Ok(()) };
    let explained = explain::explain(expression, timezone, Dst::Once, clock::wall(), 0);
    explained.map(drop).map_err(|problem| Error::invalid(format!("schedule \"{name}\""), problem.to_string()))
}

/// The database says so too, unless [`warn_if_unknown`] has switched it off.
fn warn_of_no_statement(row: &ScheduleRow) {
    let payload: Value = serde_json::from_str(row.payload.get()).unwrap_or_default();
    if row.handler == "sql" && !payload["statement"].is_string() {
        let name = &row.name;
        note(&format!("warning: schedule \"{name}\" has no \"statement\" in its payload, so its runs will fail"));
    }
}

/// The schedule in words with its next fire times.
async fn print(connection: &mut PgConnection, name: &str, setting: &Setting) -> Result<ScheduleRow> {
    let row: ScheduleRow = find(connection, name).await?;
    let text = summary(&row);
    setting.output.one(&row, &text, name)?;
    Ok(row)
}

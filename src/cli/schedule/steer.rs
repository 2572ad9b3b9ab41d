//! `watchbell schedule pause`, `resume`, `skip`, `run-now`, `delete` and `backfill`.

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::confirm::confirm;
use crate::cli::enqueue::text_of;
use crate::cli::output::{Column, note, time};
use crate::cli::{Setting, value, wait};
use crate::client;
use crate::error::{Error, Result};
use crate::run::RunId;

#[derive(Debug, Args)]
pub(in crate::cli) struct PauseArgs {
    /// Which schedules.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Why; kept with it.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Until this time; else until it is resumed.
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    until: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ResumeArgs {
    /// Which schedules.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SkipArgs {
    /// Which schedule.
    name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeleteArgs {
    /// Which schedules.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RunNowArgs {
    /// Which schedule.
    name: String,
    /// What this run gets instead: as text, from a file (@file) or from standard input (-).
    #[arg(long, value_name = "JSON|@FILE|-")]
    payload: Option<String>,
    /// Wait until it is over; exit with 1 if it did not end well.
    #[arg(long)]
    wait: bool,
    /// How long to wait; then exit with 124.
    #[arg(long, value_name = "DURATION", value_parser = value::any_duration, requires = "wait")]
    wait_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BackfillArgs {
    /// Which schedule.
    name: String,
    /// The first fire time, included.
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    from: DateTime<Utc>,
    /// The last fire time, included.
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    to: DateTime<Utc>,
    /// Only say which fire times would get a run.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// What was done to a schedule.
#[derive(Serialize)]
struct Done<'a> {
    name: &'a str,
    result: &'static str,
}

pub(super) async fn pause(args: PauseArgs, setting: &Setting) -> Result<()> {
    let until = args.until.map(|at| format!(" until {}", time(Some(at)))).unwrap_or_default();
    each(&args.names, "paused", &until, setting, async |connection, name| {
        client::pause(connection, name, args.note.as_deref(), args.until).await
    })
    .await
}

pub(super) async fn resume(args: ResumeArgs, setting: &Setting) -> Result<()> {
    each(&args.names, "resumed", "", setting, async |connection, name| client::resume(connection, name).await).await
}

pub(super) async fn delete(args: DeleteArgs, setting: &Setting) -> Result<()> {
    confirm(args.yes, &format!("delete {} of {}", args.names.join(", "), setting.database()?))?;
    let kept = "; its runs stay";
    each(&args.names, "deleted", kept, setting, async |connection, name| client::unschedule(connection, name).await)
        .await
}

/// All or none: one name that is mistyped leaves the others as they are.
async fn each(
    names: &[String],
    result: &'static str,
    more: &str,
    setting: &Setting,
    mut act: impl AsyncFnMut(&mut sqlx::PgConnection, &str) -> Result<()>,
) -> Result<()> {
    use sqlx::Connection;
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let mut transaction = connection.begin().await?;
    for name in names {
        act(&mut transaction, name).await?;
    }
    transaction.commit().await?;
    let done: Vec<Done<'_>> = names.iter().map(|name| Done { name, result }).collect();
    let columns: &[Column<Done<'_>>] =
        &[("NAME", |done| done.name.to_owned()), ("RESULT", |done| done.result.to_owned())];
    setting.output.list(&done, columns, |done| done.name.to_owned())?;
    for name in names {
        note(&format!("{url}: schedule \"{name}\" is {result}{more}"));
    }
    Ok(())
}

#[derive(Serialize)]
struct Skipped<'a> {
    name: &'a str,
    skipped: DateTime<Utc>,
}

pub(super) async fn skip(args: SkipArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let skipped = client::skip_next(&mut connection, &args.name).await?;
    let at = time(Some(skipped));
    setting.output.one(&Skipped { name: &args.name, skipped }, &at, &args.name)?;
    note(&format!("{url}: schedule \"{}\" does not fire at {at}", args.name));
    Ok(())
}

#[derive(Serialize)]
struct Started<'a> {
    id: RunId,
    schedule: &'a str,
}

pub(super) async fn run_now(args: RunNowArgs, setting: &Setting) -> Result<ExitCode> {
    let payload = match &args.payload {
        Some(source) => Some(
            RawValue::from_string(text_of("--payload", source)?)
                .map_err(|e| Error::invalid("--payload", format!("is not valid JSON: {e}")))?,
        ),
        None => None,
    };
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let id = match payload {
        Some(payload) => client::run_now_with(&mut connection, &args.name, &payload).await?,
        None => client::run_now(&mut connection, &args.name).await?,
    };
    setting.output.one(&Started { id, schedule: &args.name }, &id.to_string(), &id.to_string())?;
    note(&format!("{url}: run {id} of schedule \"{}\"", args.name));
    if args.wait { wait::wait(&mut connection, &[id], args.wait_timeout).await } else { Ok(ExitCode::SUCCESS) }
}

pub(super) async fn backfill(args: BackfillArgs, setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    if !args.dry_run && !args.yes {
        let plan = client::backfill(&mut connection, &args.name, args.from, args.to, true).await?;
        confirm(false, &format!("make {} runs of schedule \"{}\" in {url}", plan.fire_times.len(), args.name))?;
    }
    let done = client::backfill(&mut connection, &args.name, args.from, args.to, args.dry_run).await?;
    let text: String = done.fire_times.iter().map(|at| time(Some(*at)) + "\n").collect();
    setting.output.one(&done, &text, &done.id.to_string())?;
    let had = match done.existing {
        0 => String::new(),
        n => format!("; {n} had one already"),
    };
    note(&match args.dry_run {
        true => format!("{url}: {} fire times would get a run{had}", done.fire_times.len()),
        false => format!("{url}: runs made: {}{had}", done.runs),
    });
    Ok(())
}

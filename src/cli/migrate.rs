//! `watchbell migrate`: the schema's versions.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Setting;
use super::output::{note, optional, time};
use crate::db::{self, DatabaseUrl, Session};
use crate::error::Result;
use crate::migrate::{self, Step};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Bring the schema to the version of this build.
    Up,
    /// List the migrations, applied and to come.
    Status,
    /// Exit with 0 if this build works with the schema, with 6 if not.
    Check,
    /// Print the SQL, for a database administrator to run.
    Sql(SqlArgs),
}

#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    /// Only what comes after this version.
    #[arg(long, value_name = "VERSION")]
    from: Option<i32>,
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    match verb {
        Verb::Up => up(setting).await?,
        Verb::Status => status(setting).await?,
        Verb::Check => {
            let url = setting.database()?;
            migrate::check(&mut connect(&url).await?).await?;
            note(&format!("{url}: the schema fits this build"));
        }
        Verb::Sql(args) => setting.output.write(&migrate::sql(args.from))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A migration may take long, and makes its own rules for locks.
async fn connect(url: &DatabaseUrl) -> Result<sqlx::PgConnection> {
    let session = Session { statement_timeout: Duration::ZERO, ..Session::named("watchbell migrate") };
    db::connect_as(url, &session).await
}

async fn up(setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let report = migrate::up(&mut connect(&url).await?).await?;
    setting.output.list(&report.applied, &[("APPLIED", Clone::clone)], Clone::clone)?;
    note(&match report.applied.len() {
        0 => format!("{url}: nothing to do, the schema is at version {}", report.to),
        _ => format!("{url}: the schema went from version {} to {}", report.from, report.to),
    });
    Ok(())
}

#[derive(Serialize)]
struct Row {
    version: i32,
    name: String,
    applied_at: Option<chrono::DateTime<chrono::Utc>>,
    applied_by: Option<String>,
}

impl From<Step> for Row {
    fn from(step: Step) -> Self {
        let Step { version, name, applied_at, applied_by, .. } = step;
        Self { version, name, applied_at, applied_by }
    }
}

async fn status(setting: &Setting) -> Result<()> {
    let url = setting.database()?;
    let steps = migrate::status(&mut connect(&url).await?).await?;
    let rows: Vec<Row> = steps.into_iter().map(Row::from).collect();
    let to_come = rows.iter().filter(|row| row.applied_at.is_none()).count();
    if to_come > 0 {
        note(&format!("{url}: {to_come} migrations are to come; run: watchbell migrate up"));
    }
    setting.output.list(
        &rows,
        &[
            ("VERSION", |row| row.version.to_string()),
            ("NAME", |row| row.name.clone()),
            ("APPLIED", |row| time(row.applied_at)),
            ("BY", |row| optional(&row.applied_by)),
        ],
        |row| row.name.clone(),
    )
}

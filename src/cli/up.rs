//! `watchbell up`: migrations and a worker in one process.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Setting;
use super::output::note;
use super::worker::{WorkerArgs, work};
use crate::db::{self, DatabaseUrl, Session};
use crate::embedded::{Options, Server, state_directory};
use crate::error::Result;
use crate::migrate;

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Where the private PostgreSQL keeps its data [default: postgres in the user's state directory].
    #[arg(long, env = "WATCHBELL_STATE_DIR", value_name = "DIRECTORY")]
    pub(super) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) worker: WorkerArgs,
}

/// Without a configured database it runs a private one, for which the handler sql is enabled: its login is
/// no superuser, and only this account can read its password.
pub(super) async fn run(mut args: UpArgs, setting: &Setting) -> Result<ExitCode> {
    args.worker.config()?;
    args.worker.listen.by_default = true;
    let (url, server) = match setting.database_if_any()? {
        Some(url) => (url, None),
        None => {
            let dir = args.state_dir.take().unwrap_or_else(|| state_directory().join("postgres"));
            note(&format!("no database is configured: starting a private PostgreSQL in {}", dir.display()));
            let server = Server::start(Options::kept_at(dir)).await?;
            note(&format!("database: {}", server.url()));
            note(&format!("in another terminal: export WATCHBELL_DATABASE_URL='{}'", server.url()));
            args.worker.sql.enable_sql = true;
            (server.url().parse()?, Some(server))
        }
    };
    let result = match migrate(&url).await {
        Ok(()) => work(&args.worker, &url).await,
        Err(error) => Err(error),
    };
    if let Some(server) = server {
        server.stop().await?;
    }
    result
}

async fn migrate(url: &DatabaseUrl) -> Result<()> {
    let mut connection = db::connect_as(url, &Session::named("watchbell migrate")).await?;
    let report = migrate::up(&mut connection).await?;
    if report.applied.is_empty() {
        note(&format!("schema: version {}", report.to));
    } else {
        note(&format!("schema: migrated from version {} to {}", report.from, report.to));
    }
    Ok(())
}

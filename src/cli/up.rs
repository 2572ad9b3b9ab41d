//! `watchbell up`: migrations and a worker in one process.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Setting;
use super::worker::WorkerArgs;
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Where the private PostgreSQL keeps its data [default: the user's state directory].
    #[arg(long, env = "WATCHBELL_STATE_DIR", value_name = "DIRECTORY")]
    pub(super) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) worker: WorkerArgs,
}

pub(super) async fn run(args: UpArgs, setting: &Setting) -> Result<ExitCode> {
    args.worker.config()?;
    setting.database_if_any()?;
    Err(Error::invalid("up", "is not part of this build yet"))
}

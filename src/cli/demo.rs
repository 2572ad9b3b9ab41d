//! `watchbell demo`: everything on a private PostgreSQL, removed at its end.

use std::process::ExitCode;

use clap::Args;

use super::Setting;
use super::value;
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// How many worker processes, 1 to 16.
    #[arg(long, env = "WATCHBELL_DEMO_WORKERS", value_name = "N", default_value_t = 3, value_parser = value::number(1..=16))]
    pub(super) workers: u32,
}

pub(super) async fn run(_args: DemoArgs, _setting: &Setting) -> Result<ExitCode> {
    Err(Error::invalid("demo", "is not part of this build yet"))
}

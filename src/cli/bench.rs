//! `watchbell bench`: load tests, on the database that is configured or on a private one.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Setting;
use super::value;
use crate::error::{Error, Result};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// How many runs a second are claimed, run and finished when many wait.
    Drain(DrainArgs),
    /// How long after its INSERT a run starts on an idle worker.
    Latency(LatencyArgs),
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// How many runs wait at the start, 1 to 100000000.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = value::number(1..=100_000_000))]
    pub(super) runs: u32,
    /// How many worker processes, 1 to 64.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value::number(1..=64))]
    pub(super) workers: u32,
    /// Slots of each worker, 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value::number(1..=10_000))]
    pub(super) slots: u32,
}

#[derive(Debug, Args)]
pub(super) struct LatencyArgs {
    /// INSERTs a second, 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = value::number(1..=10_000))]
    pub(super) rate: u32,
    /// For how long, 1s to 1h.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = value::seconds(1..=3600))]
    pub(super) duration: Duration,
}

pub(super) async fn run(verb: Verb, _setting: &Setting) -> Result<ExitCode> {
    let name = match verb {
        Verb::Drain(_) => "bench drain",
        Verb::Latency(_) => "bench latency",
    };
    Err(Error::invalid(name, "is not part of this build yet"))
}

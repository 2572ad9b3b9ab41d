//! `watchbell schedule next`: when a schedule fires, as far as that is certain.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use super::show::{coming, find};
use crate::cli::output::{note, time};
use crate::cli::{Setting, value};
use crate::error::Result;

#[derive(Debug, Args)]
pub(in crate::cli) struct NextArgs {
    /// Which schedule.
    name: String,
    /// How many fire times, 1 to 1000.
    #[arg(short, value_name = "N", default_value_t = 5, value_parser = value::number(1..=1000))]
    n: u32,
}

#[derive(Serialize)]
struct Next<'a> {
    name: &'a str,
    next: Vec<DateTime<Utc>>,
}

pub(super) async fn next(args: NextArgs, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    let row = find(&mut connection, &args.name).await?;
    let next = row.upcoming(args.n as usize);
    if next.is_empty() {
        note(&format!("schedule \"{}\" has no next fire time: {}", args.name, coming(&row)));
        if !setting.output.is_json() {
            return Ok(());
        }
    }
    let text: String = next.iter().map(|at| time(Some(*at)) + "\n").collect();
    setting.output.one(&Next { name: &args.name, next }, &text, text.trim_end())
}

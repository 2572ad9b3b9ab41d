//! `watchbell cron`: when an expression fires, without a database.

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Setting;
use super::value;
use crate::clock;
use crate::error::{Error, Result};
use crate::schedule::{Dst, Schedule, Spec};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// What an expression means: checked as the database checks it, with its next fire times.
    Explain(CronArgs),
    /// Only the next fire times, one a line.
    Next(CronArgs),
}

#[derive(Debug, Args)]
pub(super) struct CronArgs {
    /// The expression, quoted: '0 2 * * *', '@daily', '@every 5m'.
    expression: String,
    /// Its time zone, UTC or an Area/Location name.
    #[arg(long = "tz", value_name = "ZONE", default_value = "UTC")]
    zone: String,
    /// Count from this time instead of now, RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    from: Option<DateTime<Utc>>,
    /// How many fire times, 1 to 1000.
    #[arg(short, value_name = "N", default_value_t = 5, value_parser = value::number(1..=1000))]
    n: u32,
    /// What happens at clock changes: once (each local time once) or literal (as the wall clock shows it).
    #[arg(long, value_name = "RULE", default_value = "once")]
    dst: Dst,
}

#[derive(Serialize)]
struct Answer<'a> {
    spec: &'a str,
    tz: &'a str,
    next: Vec<String>,
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    let (args, explain) = match verb {
        Verb::Explain(args) => (args, true),
        Verb::Next(args) => (args, false),
    };
    let spec = Spec::cron(&args.expression, &args.zone, args.dst).map_err(|e| Error::invalid("cron", e.to_string()))?;
    let from = args.from.unwrap_or_else(clock::wall);
    let next = Schedule::new(0, spec.clone(), from).upcoming(from, args.n as usize);
    if next.is_empty() {
        return Err(Error::invalid("cron", format!("\"{}\" never fires: no date matches it", args.expression)));
    }
    let utc = |at: &DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut text = String::new();
    if explain {
        text.push_str(&match &spec {
            Spec::FixedRate(_) => format!("{spec}, counted from when the schedule is written\n"),
            _ => format!("{} in {}\n", args.expression.trim(), args.zone),
        });
    }
    for at in &next {
        let local = local(at, &args.zone);
        text.push_str(&if explain { format!("  {local}   {}\n", utc(at)) } else { format!("{}\n", utc(at)) });
    }
    let answer = Answer { spec: &args.expression, tz: &args.zone, next: next.iter().map(utc).collect() };
    setting.output.one(&answer, &text, &text)?;
    Ok(ExitCode::SUCCESS)
}

/// The instant as clocks in the zone show it.
fn local(at: &DateTime<Utc>, zone: &str) -> String {
    jiff::Timestamp::from_second(at.timestamp())
        .and_then(|at| at.in_tz(zone))
        .map_or_else(|_| String::new(), |at| at.strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string())
}

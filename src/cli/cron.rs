//! `watchbell cron`: when an expression fires, without a database.

mod questions;

use std::process::ExitCode;

use chrono::{DateTime, FixedOffset, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Setting;
use super::value;
use crate::clock;
use crate::error::{Error, Result};
use crate::schedule::explain::{self, Explanation, rfc3339};
use crate::schedule::{CronError, Dst};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// What an expression means in words, its next fire times, and what is easily overlooked.
    Explain(ExplainArgs),
    /// Only the next fire times, one a line; with --stdin those of many expressions.
    Next(NextArgs),
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The expression, quoted: '0 2 * * *', '@daily', '@every 5m'.
    expression: String,
    #[command(flatten)]
    question: Question,
}

#[derive(Debug, Args)]
pub(super) struct NextArgs {
    /// The expression, quoted: '0 2 * * *', '@daily', '@every 5m'.
    #[arg(required_unless_present = "stdin", conflicts_with = "stdin")]
    expression: Option<String>,
    #[command(flatten)]
    question: Question,
    /// Answer the questions on standard input, one JSON object a line.
    ///
    /// A question is {"spec", "tz", "from", "n", "dst"}; all but spec may be left out, and are then as the options
    /// say. Its answer is one line, {"next": [...]} or {"error": "..."}. A bad line is answered like any other.
    #[arg(long)]
    stdin: bool,
}

/// What there is to ask beside the expression.
#[derive(Debug, Clone, Args)]
struct Question {
    /// Its time zone, UTC or an Area/Location name; a TZ= in the expression goes before.
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

impl Question {
    fn from(&self) -> DateTime<Utc> {
        self.from.unwrap_or_else(clock::wall)
    }
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    match verb {
        Verb::Explain(args) => explain(&args, setting)?,
        Verb::Next(NextArgs { expression: Some(expression), question, .. }) => next(&expression, &question, setting)?,
        Verb::Next(NextArgs { expression: None, question, .. }) => questions::answer(question).await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Meaning<'a> {
    spec: &'a str,
    tz: &'a str,
    dst: &'static str,
    words: &'a str,
    next: Vec<Occurrence>,
    remarks: &'a [String],
}

/// One fire time, as clocks in the zone show it and in UTC.
#[derive(Serialize)]
struct Occurrence {
    local: String,
    utc: String,
}

fn explain(ExplainArgs { expression, question }: &ExplainArgs, setting: &Setting) -> Result<()> {
    let Explanation { spec, timezone, words, next, remarks, .. } =
        explain::explain(expression, &question.zone, question.dst, question.from(), question.n as usize)
            .map_err(refused)?;
    let utc = |at: &DateTime<FixedOffset>| rfc3339(&at.to_utc().fixed_offset(), "UTC");
    let mut text = format!("{spec} in {timezone}: {words}\n");
    for at in &next {
        text.push_str(&format!("  {}   {}\n", on_the_clock(at, &timezone), utc(at)));
    }
    if next.is_empty() {
        text.push_str("  no fire time is left\n");
    }
    for remark in &remarks {
        text.push_str(&format!("note: {remark}\n"));
    }
    let occurrence = |at: &DateTime<FixedOffset>| Occurrence { local: rfc3339(at, &timezone), utc: utc(at) };
    let meaning = Meaning {
        spec: &spec,
        tz: &timezone,
        dst: question.dst.as_str(),
        words: &words,
        next: next.iter().map(occurrence).collect(),
        remarks: &remarks,
    };
    setting.output.one(&meaning, &text, &words)
}

#[derive(Serialize)]
struct Answer<'a> {
    spec: &'a str,
    tz: &'a str,
    next: Vec<String>,
}

fn next(expression: &str, question: &Question, setting: &Setting) -> Result<()> {
    let zone = explain::timezone(expression, &question.zone);
    let next = explain::next(expression, &question.zone, question.dst, question.from(), question.n as usize)
        .map_err(refused)?;
    let next: Vec<String> = next.iter().map(|at| rfc3339(at, zone)).collect();
    let text = next.iter().map(|at| format!("{at}\n")).collect::<String>();
    setting.output.one(&Answer { spec: expression, tz: zone, next }, &text, text.trim_end())
}

fn refused(error: CronError) -> Error {
    Error::invalid("cron", error.to_string())
}

/// The instant with its weekday and the name that the zone has for its time then.
fn on_the_clock(at: &DateTime<FixedOffset>, zone: &str) -> String {
    jiff::Timestamp::from_second(at.timestamp())
        .and_then(|at| at.in_tz(zone))
        .map_or_else(|_| at.to_rfc3339(), |at| at.strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string())
}

//! `watchbell runs logs`: what a run printed, while it runs or afterwards, whichever workers had it.

use std::time::Duration;

use chrono::SecondsFormat;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::{Setting, value};
use crate::client::{self, OutputRow, RunOutput};
use crate::error::Result;
use crate::handler::Stream;
use crate::run::RunId;

/// Between two looks for more.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(in crate::cli) struct LogsArgs {
    /// Which run.
    #[arg(value_parser = value::run_id)]
    id: RunId,
    /// Go on until the run is over, through all its attempts.
    #[arg(short, long)]
    follow: bool,
    /// Only of this attempt.
    #[arg(long, value_name = "N", value_parser = value::number(1..=i32::MAX as u32))]
    attempt: Option<u32>,
    /// Only this stream [default: all, in the order in which they were printed].
    #[arg(long, value_enum)]
    stream: Option<Word>,
    /// Leave control characters as they are on a terminal too; elsewhere nothing is ever changed.
    #[arg(long)]
    raw: bool,
}

/// A stream by its name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Word {
    Log,
    Stdout,
    Stderr,
}

pub(super) async fn run(args: LogsArgs, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    let mut output = RunOutput::of(args.id);
    if let Some(attempt) = args.attempt {
        output = output.attempt(i32::try_from(attempt).unwrap_or(i32::MAX));
    }
    if let Some(stream) = args.stream {
        output = output.stream(match stream {
            Word::Log => Stream::Log,
            Word::Stdout => Stream::Stdout,
            Word::Stderr => Stream::Stderr,
        });
    }
    loop {
        // asked first: a run's last output is written before its end, so what is read after it is all
        let row = client::run(&mut connection, args.id).await?;
        loop {
            let rows = output.next(&mut connection).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                if !setting.output.write_bytes(&shown(row, &args, setting))? {
                    return Ok(());
                }
            }
        }
        if !args.follow || row.status.is_terminal() {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As it was printed, or as one JSON object a line.
fn shown(row: &OutputRow, args: &LogsArgs, setting: &Setting) -> Vec<u8> {
    if setting.output.is_json() {
        let object = json!({
            "run_id": args.id,
            "attempt": row.attempt,
            "seq": row.seq,
            "stream": row.stream,
            "at": row.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "text": String::from_utf8_lossy(&row.bytes),
            "is_utf8": std::str::from_utf8(&row.bytes).is_ok(),
            "cut_bytes": row.cut_bytes,
        });
        return format!("{object}\n").into_bytes();
    }
    if setting.output.is_terminal() && !args.raw { harmless(&row.bytes) } else { row.bytes.clone() }
}

/// With control characters as `^[` and the like: what a run printed must not steer the terminal.
fn harmless(bytes: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\n' | b'\t' => shown.push(byte),
            0..32 => shown.extend([b'^', byte + 64]),
            127 => shown.extend(b"^?"),
            _ => shown.push(byte),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn a_terminal_is_not_steered() {
        assert_eq!(harmless("a\tb\x1b[2J\0\x7f\u{e9}\n".as_bytes()), "a\tb^[[2J^@^?\u{e9}\n".as_bytes());
    }
}

//! `watchbell watch show`: all about one watch on one screen.

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use super::test::way;
use super::{counted, state};
use crate::cli::Setting;
use crate::cli::output::time;
use crate::client::{self, WatchCount, WatchError, WatchRow, WatchTrial, Watches};
use crate::duration;
use crate::error::{Error, Result};
use crate::handler::shown_key;
use crate::nearest::did_you_mean;

/// How many errors are shown.
const ERRORS: u32 = 5;
/// Lines of what each of them printed.
const PRINTED: usize = 5;

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Which watch.
    name: String,
}

/// A watch, and its table as far as this login may read it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    row: WatchRow,
    counts: Option<Vec<WatchCount>>,
    /// Why they are not there.
    not_counted: Option<String>,
    missing_indexes: Vec<String>,
    errors: Vec<WatchError>,
}

pub(super) async fn show(args: ShowArgs, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    let row = find(&mut connection, &args.name).await?;
    let (counts, not_counted) = match client::watch_counts(&mut connection, &args.name).await {
        Ok(counts) => (Some(counts), None),
        Err(problem @ (Error::Denied(_) | Error::Conflict(_))) => (None, Some(problem.to_string())),
        Err(error) => return Err(error),
    };
    let missing_indexes = missing_indexes(&mut connection, &args.name).await?;
    let errors = client::watch_errors(&mut connection, &args.name, None, ERRORS).await?;
    let now = sqlx::query_scalar("select now()").fetch_one(&mut connection).await?;
    let shown = Shown { row, counts, not_counted, missing_indexes, errors };
    setting.output.one(&shown, &text(&shown, now), &args.name)
}

/// What is known, or none for a login that may not read the table, and for a table that is gone.
fn readable<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(Error::Denied(_) | Error::Conflict(_)) => Ok(None),
        answer => answer.map(Some),
    }
}

/// The statements that make what its steps have no index for.
pub(super) async fn missing_indexes(connection: &mut PgConnection, name: &str) -> Result<Vec<String>> {
    let trials: Vec<WatchTrial> = readable(client::test_watch(connection, name, 0).await)?.unwrap_or_default();
    Ok(trials.into_iter().filter_map(|trial| trial.missing_index).collect())
}

/// The watch of this name, or the nearest one in the refusal.
pub(super) async fn find(connection: &mut PgConnection, name: &str) -> Result<WatchRow> {
    if let Some(row) = Watches::new().name(name).fetch(&mut *connection).await?.pop() {
        return Ok(row);
    }
    let known = Watches::new().limit(1000).fetch(connection).await?;
    let near = did_you_mean(name, known.iter().map(|row| row.name.as_str()));
    let hint = if near.is_empty() { "; list them with: watchbell watch list".to_owned() } else { near };
    Err(Error::NotFound { kind: "watch", name: name.to_owned(), hint })
}

/// Its table, and each step with its handler and mode.
pub(super) fn summary(row: &WatchRow) -> String {
    let mut text = format!("{}  {}, column {}\n", row.name, row.table_name, row.status_column);
    for step in &row.steps {
        let mode = match (row.status.as_str(), &step.mode, &step.reason) {
            ("invalid", ..) => "not worked, since the watch is invalid".to_owned(),
            // what an earlier plan says may have been edited since
            ("pending", ..) | (_, None, None) => "no worker has looked at it yet".to_owned(),
            (_, Some(mode), Some(reason)) => format!("{mode}: {reason}"),
            (_, Some(said), None) | (_, None, Some(said)) => said.clone(),
        };
        let way = way(&step.from, step.via.as_deref(), &step.to, &step.error);
        text.push_str(&format!("  {way}; by {}; {mode}\n", step.handler));
        let own: Vec<String> = step.own.iter().map(|(key, value)| format!("{key} {}", plain(key, value))).collect();
        if !own.is_empty() {
            text.push_str(&format!("    with its own {}\n", own.join(", ")));
        }
    }
    text
}

/// A value of a step as a person would write it; the library writes durations in microseconds.
fn plain(key: &str, value: &Value) -> String {
    let Some(text) = value.as_str() else { return value.to_string() };
    let micros = text.strip_suffix(" us").and_then(|n| n.parse().ok()).map(TimeDelta::microseconds);
    let is_duration = ["timeout", "rate_period"].contains(&key);
    let duration = micros.or_else(|| duration::parse(text).ok()).filter(|_| is_duration);
    duration.map_or_else(|| text.to_owned(), duration::words)
}

fn text(shown: &Shown, now: DateTime<Utc>) -> String {
    let row = &shown.row;
    let mut text = summary(row);
    let mut line = |heading: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("  {heading:<20} {}\n", value.replace(['\n', '\r'], " ")));
        }
    };
    line("status", Some(state(row).to_owned()));
    line("error", row.error.clone());
    if let Some(since) = row.paused_at {
        let by = row.paused_by.as_deref().unwrap_or("?");
        let until = row.paused_until.map(|at| format!(" until {}", time(Some(at)))).unwrap_or_default();
        let why = row.pause_note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        line("paused", Some(format!("since {} by {by}{until}{why}", time(Some(since)))));
    }
    match &shown.counts {
        None => line("rows", shown.not_counted.as_ref().map(|problem| format!("not counted: {problem}"))),
        Some(counts) => counts.iter().for_each(|count| line(&count.state, Some(rows(count, now)))),
    }
    for statement in &shown.missing_indexes {
        line("missing index", Some(statement.clone()));
    }
    line("in work", Some(counted(row, row.in_work)));
    line("wait for a retry", Some(counted(row, row.waiting)));
    let changed = if row.changed == 0 { String::new() } else { format!(", {} changed meanwhile", row.changed) };
    let so_far = format!("{} moved on, {} given up, {} tried again{changed}", row.done, row.failed, row.retried);
    line("so far", Some(so_far));
    line("last", row.last_at.map(|at| time(Some(at))));
    line("key", row.key_columns.as_ref().map(|key| key.join(", ")));
    line("payload", Some(row.payload.get().to_owned()).filter(|payload| !["{}", "null"].contains(&payload.as_str())));
    line("order", row.order_by.clone());
    line("filter", row.filter.clone());
    line("batch", Some(format!("{} rows", row.batch_size)));
    line("in work at most", row.max_running.map(|n| n.to_string()));
    let period = row.rate_period.map(duration::words).unwrap_or_default();
    line("rate", row.rate_limit.map(|n| format!("{n} in {period}")));
    line("polled every", row.poll_interval.map(duration::words));
    line(
        "wake-up",
        Some(if row.wakes { "by a trigger on the table" } else { "none: new rows wait for the next look" }.to_owned()),
    );
    line("attempts", Some(format!("{} for each row", row.max_attempts)));
    line("retry", row.retry.as_ref().map(|retry| retry.get().to_owned()));
    line("timeout", Some(timeout(row)));
    line("description", row.description.clone());
    line("owner", row.owner.clone());
    line("runbook", row.runbook_url.clone());
    line("tags", Some(row.tags.join(", ")));
    line("managed by", row.managed_by.clone());
    line("version", Some(format!("{}, since {}", row.version, time(Some(row.updated_at)))));
    for error in &shown.errors {
        let again = error.again_at.map(|at| format!(", again at {}", time(Some(at)))).unwrap_or_default();
        let said =
            format!("{} {}, attempt {}{again}: {}", time(Some(error.at)), error.step, error.attempt, error.message);
        line(&format!("error of {}", shown_key(&error.key)), Some(said));
        last_lines(error.output.as_deref()).into_iter().for_each(|printed| line("  it printed", Some(printed)));
    }
    text
}

/// What is shown of an output: its last lines; all of it is in `--json`.
fn last_lines(output: Option<&str>) -> Vec<String> {
    let lines: Vec<&str> = output.unwrap_or_default().lines().collect();
    lines[lines.len().saturating_sub(PRINTED)..].iter().map(|line| (*line).to_owned()).collect()
}

/// The timeout as it was written, and what is left of it in transactional mode.
fn timeout(row: &WatchRow) -> String {
    let asked = row.timeout.map_or_else(|| "none".to_owned(), duration::words);
    let plan = row.plan.as_ref().and_then(|plan| serde_json::from_str::<Value>(plan.get()).ok()).unwrap_or_default();
    let steps = plan["steps"].as_array().into_iter().flatten().filter(|step| step["mode"] == "transactional");
    let shortest = steps.filter_map(|step| step["timeout_ms"].as_i64()).min().map(TimeDelta::milliseconds);
    match shortest.filter(|shortest| row.timeout.is_none_or(|asked| *shortest < asked)) {
        Some(limit) => format!("{asked}; {} in transactional mode", duration::words(limit)),
        None => asked,
    }
}

/// How many rows stand in a state, and how long.
fn rows(count: &WatchCount, now: DateTime<Utc>) -> String {
    let role = count.role.replace('_', " ");
    let Some(rows) = count.rows else {
        return format!("{role}, not counted: {}", count.problem.as_deref().unwrap_or("nothing is known of them"));
    };
    let more = if count.capped { "+" } else { "" };
    let oldest = count.oldest.filter(|_| rows > 0 && role != "done").map(|since| {
        format!(", the oldest for {}", duration::words(TimeDelta::seconds((now - since).num_seconds().max(0))))
    });
    let by = if role == "left out" { " by the filter" } else { "" };
    format!("{rows}{more} {role}{by}{}", oldest.unwrap_or_default())
}

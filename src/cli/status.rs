//! `watchbell status`: one screen for a person in the night, and an exit code for a script.

use std::cell::Cell;
use std::process::ExitCode;

use clap::Args;

use super::output::{Column, optional, plain, time};
use super::queue::{counted, whole_seconds};
use super::repeat::Repeat;
use super::{Setting, exit, workers};
use crate::client::{self, AttentionRow, QueueRow, StatusReport};
use crate::error::Result;

/// Rows of each part on the screen; json and yaml have all.
const ROWS: usize = 5;

/// Workers and queues are few, and each may be the one.
const WORKERS: usize = 10;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    repeat: Repeat,
}

pub(super) async fn run(args: &StatusArgs, setting: &Setting) -> Result<ExitCode> {
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let quiet = Cell::new(true);
    args.repeat
        .show(setting, async || {
            let report = client::status(&mut connection).await?;
            quiet.set(report.attention.is_empty());
            let text = screen(setting, &url.to_string(), &report);
            setting.output.one(&report, &text, &report.database)
        })
        .await?;
    Ok(if quiet.get() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn screen(setting: &Setting, url: &str, report: &StatusReport) -> String {
    let (server, schema, at) = (&report.server_version, report.schema_version, time(Some(report.at)));
    let mut text = format!("{url}  watchbell {}, schema {schema}, PostgreSQL {server}, {at}\n", report.version);
    let alive = report.workers.iter().filter(|row| row.lease_until > report.at);
    let (slots, taken) =
        alive.clone().fold((0, 0), |(slots, taken), row| (slots + i64::from(row.slots), taken + row.running));
    part(
        &mut text,
        setting,
        &format!("Workers: {} alive, {taken} of {slots} slots taken", alive.count()),
        &report.workers,
        WORKERS,
        &[
            ("ID", |row| row.id.to_string()),
            ("NAME", |row| row.name.clone()),
            ("STATE", workers::state),
            ("RUNNING", |row| format!("{}/{}", row.running, row.slots)),
            ("HEARD", |row| row.heartbeat_age.map(whole_seconds).unwrap_or_default()),
            ("VERSION", |row| row.version.clone()),
        ],
    );
    let (busy, idle): (Vec<QueueRow>, Vec<QueueRow>) = report.queues.iter().cloned().partition(is_busy);
    let title = if idle.is_empty() { "Queues".to_owned() } else { format!("Queues: {} idle", idle.len()) };
    part(
        &mut text,
        setting,
        &title,
        &busy,
        WORKERS,
        &[
            ("NAME", |row| row.name.clone()),
            ("PENDING", |row| counted(row, row.ready)),
            ("LATER", |row| counted(row, row.later)),
            ("RUNNING", |row| counted(row, row.running)),
            ("OLDEST", |row| row.oldest_waits_for.map(whole_seconds).unwrap_or_default()),
            ("PAUSED", |row| time(row.paused_at)),
        ],
    );
    let some_unknown = report.watches.iter().any(|row| row.waiting.is_none());
    let title = if some_unknown {
        "Watches: ? is not counted in time, or not readable; watch show says more"
    } else {
        "Watches"
    };
    part(
        &mut text,
        setting,
        title,
        &report.watches,
        WORKERS,
        &[
            ("NAME", |row| row.name.clone()),
            ("STATUS", |row| row.status.clone()),
            ("WAITING", |row| {
                row.waiting.map_or_else(unknown, |n| format!("{n}{}", if row.capped { "+" } else { "" }))
            }),
            ("WORKING", |row| row.in_work.to_string()),
            ("FAILED", |row| row.failed.map_or_else(unknown, |n| n.to_string())),
            ("ERRORS IN 1H", |row| row.errors.map_or_else(unknown, |n| n.to_string())),
            ("OLDEST", |row| row.waits_for.map(whole_seconds).unwrap_or_default()),
        ],
    );
    part(
        &mut text,
        setting,
        "Next fires",
        &report.upcoming,
        ROWS,
        &[
            ("NAME", |row| row.name.clone()),
            ("AT", |row| time(Some(row.next_fire_at))),
            ("IN", |row| row.starts_in.map(whole_seconds).unwrap_or_default()),
            ("HANDLER", |row| row.handler.clone()),
        ],
    );
    part(
        &mut text,
        setting,
        "Running",
        &report.running,
        ROWS,
        &[
            ("ID", |row| row.id.to_string()),
            ("HANDLER", |row| row.handler.clone()),
            ("SCHEDULE", |row| optional(&row.schedule_name)),
            ("FOR", |row| row.running_for.map(whole_seconds).unwrap_or_default()),
            ("ATTEMPT", |row| format!("{}/{}", row.attempt, row.max_attempts)),
            ("WORKER", |row| optional(&row.worker)),
        ],
    );
    part(
        &mut text,
        setting,
        "Last failures",
        &report.failures,
        ROWS,
        &[
            ("ID", |row| row.id.to_string()),
            ("HANDLER", |row| row.handler.clone()),
            ("SCHEDULE", |row| optional(&row.schedule_name)),
            ("ENDED", |row| time(row.finished_at)),
            ("RETRIED AS", |row| optional(&row.retried_as)),
            ("ERROR", |row| optional(&row.error).chars().take(80).collect()),
        ],
    );
    text.push_str(&needs(&report.attention));
    text
}

/// In the place of a number that nobody could count.
fn unknown() -> String {
    "?".to_owned()
}

fn is_busy(queue: &QueueRow) -> bool {
    queue.ready + queue.later + queue.running > 0 || queue.paused_at.is_some()
}

/// One part of the screen; nothing where there is nothing to see below its title.
fn part<T>(text: &mut String, setting: &Setting, title: &str, rows: &[T], most: usize, columns: &[Column<T>]) {
    if rows.is_empty() && !title.contains(':') {
        return;
    }
    text.push_str(&format!("\n{title}\n"));
    if rows.is_empty() {
        return;
    }
    let shown = &rows[..rows.len().min(most)];
    for line in setting.output.table(shown, columns).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    if rows.len() > most {
        text.push_str(&format!("  and {} more\n", rows.len() - most));
    }
}

/// What needs a person comes last, next to the prompt, the worst at the top.
fn needs(attention: &[AttentionRow]) -> String {
    if attention.is_empty() {
        return "\nNothing needs attention\n".to_owned();
    }
    let mut text = format!("\nNeeds attention: {}\n", attention.len());
    for row in attention {
        let since = row.since.map(|since| format!(", since {}", time(Some(since)))).unwrap_or_default();
        let subject = plain(&row.subject);
        text.push_str(&format!("  {} {}: {} {subject}{since}\n", row.severity, row.kind, row.subject_kind));
        let prompt = if row.command.starts_with("watchbell ") { "$" } else { "psql=>" };
        text.push_str(&format!("    {}\n    {prompt} {}\n", plain(&row.reason), plain(&row.command)));
    }
    text
}

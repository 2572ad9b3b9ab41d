//! `watchbell schedule show`: all about one schedule on one screen.

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use serde::Serialize;
use sqlx::PgConnection;

use crate::cli::Setting;
use crate::cli::output::time;
use crate::client::{self, Activity, ActivityRow, RunRow, Runs, ScheduleRow, Schedules};
use crate::clock;
use crate::duration;
use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::schedule::explain;

/// How many fire times and runs are shown.
const SHOWN: usize = 5;

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Which schedule.
    name: String,
}

/// A schedule with what comes, what was and who changed it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    row: ScheduleRow,
    words: String,
    next: Vec<DateTime<Utc>>,
    runs: Vec<RunRow>,
    last_error: Option<String>,
    /// Absent for a role that may not read it.
    last_change: Option<ActivityRow>,
}

pub(super) async fn show(args: ShowArgs, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    let row = find(&mut connection, &args.name).await?;
    let runs = Runs::new().schedule(&args.name).limit(SHOWN as u32).fetch(&mut connection).await?;
    let last_error = match runs.iter().find(|run| run.error.is_some()) {
        Some(run) => client::run_errors(&mut connection, run.id)
            .await
            .ok()
            .and_then(|errors| errors.into_iter().next_back().map(|error| error.message))
            .or_else(|| run.error.clone()),
        None => None,
    };
    let activity = Activity::new().kind("schedule").name(&args.name).limit(1).fetch(&mut connection).await;
    let last_change = match activity {
        Ok(rows) => rows.into_iter().next(),
        Err(Error::Denied(_)) => None,
        Err(error) => return Err(error),
    };
    let shown = Shown { words: words(&row), next: row.upcoming(SHOWN), row, runs, last_error, last_change };
    setting.output.one(&shown, &text(&shown), &args.name)
}

/// The schedule of this name, or the nearest one in the refusal.
pub(super) async fn find(connection: &mut PgConnection, name: &str) -> Result<ScheduleRow> {
    if let Some(row) = Schedules::new().name(name).fetch(&mut *connection).await?.pop() {
        return Ok(row);
    }
    let known = Schedules::new().limit(1000).fetch(connection).await?;
    let near = did_you_mean(name, known.iter().map(|row| row.name.as_str()));
    let hint = if near.is_empty() { "; list them with: watchbell schedule list".to_owned() } else { near };
    Err(Error::NotFound { kind: "schedule", name: name.to_owned(), hint })
}

/// When it fires, in words.
pub(super) fn words(row: &ScheduleRow) -> String {
    let spec = row.spec();
    match (row.kind.as_str(), &row.cron) {
        ("cron", Some(expression)) => {
            let dst = row.dst.parse().unwrap_or_default();
            let explained = explain::explain(expression, &row.timezone, dst, clock::wall(), 0);
            explained.map_or_else(|e| e.to_string(), |e| format!("{}, {}", e.words, e.timezone))
        }
        ("fixed_rate", _) => format!("every {spec}, counted from its last start"),
        ("fixed_delay", _) => format!("{spec} after its last run ended"),
        _ => format!("once, at {spec}"),
    }
}

/// The state of the schedule itself, apart from how its runs end.
pub(super) fn state(row: &ScheduleRow) -> &str {
    if row.paused_at.is_some() { "paused" } else { &row.status }
}

/// Its first line, what it runs and what comes next.
pub(super) fn summary(row: &ScheduleRow) -> String {
    let mut text = format!("{}  {} {}: {}\n", row.name, row.kind, row.spec(), words(row));
    let next = row.upcoming(SHOWN);
    for (n, at) in next.iter().enumerate() {
        text.push_str(&format!("  {:<9} {}\n", if n == 0 { "next" } else { "" }, time(Some(*at))));
    }
    if next.is_empty() {
        text.push_str(&format!("  {:<9} {}\n", "next", coming(row)));
    }
    text
}

/// What stands in place of the next fire time.
pub(super) fn coming(row: &ScheduleRow) -> String {
    match (state(row), row.next_fire_at) {
        ("paused", _) => "paused".to_owned(),
        ("normal", None) => "after its run".to_owned(),
        (_, Some(next)) => time(Some(next)),
        (state, None) => state.to_owned(),
    }
}

fn text(shown: &Shown) -> String {
    let row = &shown.row;
    let mut text = summary(row);
    let mut line = |heading: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("  {heading:<20} {}\n", value.replace(['\n', '\r'], " ")));
        }
    };
    let interval = |value: Option<TimeDelta>| value.filter(|d| !d.is_zero()).map(duration::words);
    line("status", Some(row.status.clone()));
    line("error", row.error.clone());
    line("time zone data", row.tz_mismatch.clone());
    line("kept alive", row.keep_alive.then(|| format!("{} at a time", row.copies)));
    line("crash loop", row.crash_loop_since.map(|at| format!("since {}", time(Some(at)))));
    if let Some(since) = row.paused_at {
        let by = row.paused_by.as_deref().unwrap_or("?");
        let until = row.paused_until.map(|at| format!(" until {}", time(Some(at)))).unwrap_or_default();
        let why = row.pause_note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        line("paused", Some(format!("since {} by {by}{until}{why}", time(Some(since)))));
    }
    line("handler", Some(row.handler.clone()));
    line("payload", Some(row.payload.get().to_owned()));
    line("queue", Some(format!("{}, priority {}", row.queue, row.priority)));
    line("attempts", Some(format!("{} for each run", row.max_attempts)));
    line("retry", row.retry.as_ref().map(|retry| retry.get().to_owned()));
    line("timeout", Some(row.timeout.map_or_else(|| "none".to_owned(), duration::words)));
    line("overlap", Some(format!("{}, max_running {}", row.overlap, row.max_running)));
    line("misfire", Some(misfire(row)));
    line("start deadline", interval(row.start_deadline));
    line("jitter", interval(row.jitter));
    line("pause after failures", row.pause_after_failures.map(|n| n.to_string()));
    line("concurrency key", row.concurrency_key.clone());
    line("starts at", row.starts_at.map(|at| time(Some(at))));
    line("ends at", row.ends_at.map(|at| time(Some(at))));
    line("runs made", row.max_fires.map(|most| format!("{} of {most}", row.fires_count)));
    line("target", row.target.clone());
    line("description", row.description.clone());
    line("owner", row.owner.clone());
    line("runbook", row.runbook_url.clone());
    line("tags", Some(row.tags.join(", ")));
    line("managed by", row.managed_by.clone());
    let who = |row: &ActivityRow| format!("{} by {}, {}", row.what, row.actor, time(Some(row.at)));
    line("last change", shown.last_change.as_ref().map(who));
    line("failures in a row", Some(row.consecutive_failures.to_string()));
    line("last success", row.last_success_at.map(|at| time(Some(at))));
    line("last error", shown.last_error.clone());
    for run in &shown.runs {
        let took =
            run.started_at.zip(run.finished_at).map(|(from, to)| format!(" took {}", duration::words(to - from)));
        let at = time(run.started_at.or(Some(run.run_at)));
        line(&format!("run {}", run.id), Some(format!("{} {at}{}", run.status, took.unwrap_or_default())));
    }
    text
}

fn misfire(row: &ScheduleRow) -> String {
    let words = |value: Option<TimeDelta>| value.map(duration::words).unwrap_or_default();
    match row.misfire.as_str() {
        "skip" => format!("skip, unless at most {} late", words(row.misfire_grace)),
        "catch_up" => format!("catch_up, {} back, at most {} runs", words(row.catch_up_window), row.catch_up_limit),
        other => other.to_owned(),
    }
}

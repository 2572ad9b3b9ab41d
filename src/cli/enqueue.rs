//! `watchbell enqueue`: one run.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;

use super::handlers::warn_if_unknown;
use super::output::note;
use super::value::{self, Limit};
use super::{Setting, wait};
use crate::client::NewRun;
use crate::error::{Error, Result};
use crate::run::RunId;

#[derive(Debug, Args)]
pub(super) struct EnqueueArgs {
    /// Who does the work.
    handler: String,
    /// What it gets, a JSON object: as text, from a file (@file) or from standard input (-).
    #[arg(long, value_name = "JSON|@FILE|-")]
    payload: Option<String>,
    /// Start it so long from now, such as 5m.
    #[arg(long = "in", value_name = "DURATION", value_parser = value::any_duration, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Start it at this time, such as 2031-02-03T04:05:06Z.
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    at: Option<DateTime<Utc>>,
    /// Its queue; made if it does not exist [default: default].
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// 0 (runs first) to 9 [default: 5].
    #[arg(long, value_name = "0-9", value_parser = value::number(0..=9))]
    priority: Option<u32>,
    /// Refuse it while an open run has this key (exit code 4).
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// Runs with this key share a limit of how many run at a time.
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// How often it is tried in all, 1 to 100 [default: 3].
    #[arg(long, value_name = "N", value_parser = value::number(1..=100))]
    max_attempts: Option<u32>,
    /// How long to wait before each further attempt, as JSON: {"strategy": "fixed", "base": "30s"}.
    #[arg(long, value_name = "JSON")]
    retry: Option<String>,
    /// How long one attempt may take, or none [default: 1h].
    #[arg(long, value_name = "DURATION|none", value_parser = value::duration_or_none)]
    timeout: Option<Limit>,
    /// Only workers with these labels: label=value[,label=value].
    #[arg(long, value_name = "SELECTOR")]
    target: Option<String>,
    /// A word to filter by; may be given several times.
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
    /// Wait until it is over; exit with 1 if it did not end well.
    #[arg(long)]
    wait: bool,
    /// How long to wait; then exit with 124.
    #[arg(long, value_name = "DURATION", value_parser = value::any_duration, requires = "wait")]
    wait_timeout: Option<Duration>,
}

#[derive(Serialize)]
struct Enqueued<'a> {
    id: RunId,
    handler: &'a str,
}

pub(super) async fn run(args: EnqueueArgs, setting: &Setting) -> Result<ExitCode> {
    let run = new_run(&args)?;
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    let Some(id) = run.insert(&mut connection).await? else {
        return Err(conflict(&mut connection, args.unique_key.as_deref().unwrap_or_default()).await);
    };
    setting.output.one(&Enqueued { id, handler: &args.handler }, &id.to_string(), &id.to_string())?;
    note(&format!("{url}: run {id} waits for handler \"{}\"", args.handler));
    warn_if_unknown(&mut connection, &args.handler).await;
    if args.wait { wait::wait(&mut connection, &[id], args.wait_timeout).await } else { Ok(ExitCode::SUCCESS) }
}

fn new_run(args: &EnqueueArgs) -> Result<NewRun> {
    let mut run = NewRun::new(&args.handler).tags(&args.tags);
    if let Some(source) = &args.payload {
        run = run.payload_json(&text_of("--payload", source)?)?;
    }
    if let Some(delay) = args.delay {
        run = run.delay(delay);
    }
    if let Some(at) = args.at {
        run = run.run_at(at);
    }
    if let Some(queue) = &args.queue {
        run = run.queue(queue);
    }
    if let Some(priority) = args.priority.and_then(|n| i16::try_from(n).ok()) {
        run = run.priority(priority);
    }
    if let Some(key) = &args.unique_key {
        run = run.unique_key(key);
    }
    if let Some(key) = &args.concurrency_key {
        run = run.concurrency_key(key);
    }
    if let Some(attempts) = args.max_attempts.and_then(|n| i16::try_from(n).ok()) {
        run = run.max_attempts(attempts);
    }
    if let Some(policy) = &args.retry {
        let policy: &RawValue = serde_json::from_str(policy).map_err(|e| {
            let like = r#"such as {"strategy": "fixed", "base": "30s"}"#;
            Error::invalid("--retry", format!("is not valid JSON: {e}; {like}"))
        })?;
        run = run.retry(policy)?;
    }
    if let Some(Limit(timeout)) = args.timeout {
        run = run.timeout(timeout);
    }
    if let Some(target) = &args.target {
        run = run.target(target);
    }
    Ok(run)
}

/// The text itself, a file's (`@path`) or standard input's (`-`).
pub(super) fn text_of(option: &str, source: &str) -> Result<String> {
    if source == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        return read.map(|_| text).map_err(|e| Error::invalid(format!("{option} -"), format!("standard input: {e}")));
    }
    match source.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|e| Error::invalid(format!("{option} {source}"), e.to_string()))
        }
        None => Ok(source.to_owned()),
    }
}

/// Names the run that has the key; it may have ended meanwhile.
async fn conflict(connection: &mut PgConnection, key: &str) -> Error {
    let open = sqlx::query_scalar("select id from watchbell.runs_live where unique_key = $1").bind(key);
    let run: Option<i64> = open.fetch_optional(connection).await.ok().flatten();
    let run = run.map_or_else(|| "an open run".to_owned(), |id| format!("run {id}"));
    Error::Conflict(format!("{run} has the unique key \"{key}\" and is not over; nothing is enqueued"))
}

//! Many runs in one statement.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use super::NewRun;
use super::new_run::{Start, Timeout};
use crate::db::Named;
use crate::error::{Error, Result};

/// The most runs of one [`insert_many`]: the statement is held in memory by client and server.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{self, NewRun, RUNS_MAX};
///
/// let runs: Vec<NewRun> = (0..250_000).map(|n| NewRun::new("mail").unique_key(format!("order-{n}"))).collect();
/// let mut tx = pool.begin().await?;
/// for part in runs.chunks(RUNS_MAX) {
///     client::insert_many(&mut *tx, part.iter().cloned()).await?;
/// }
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
pub const RUNS_MAX: usize = 100_000;

/// Inserts many runs in one statement; answers how many were inserted.
///
/// Missing are those whose unique key an open run or an earlier one of the same call has. All or none
/// are accepted: one bad run refuses the call before anything is sent. Needs INSERT on
/// `watchbell.runs_live`, which the owner and the role `watchbell_worker` have. At most [`RUNS_MAX`].
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{self, NewRun};
///
/// let runs = (1..=1_000).map(|n| NewRun::new("mail").unique_key(format!("order-{n}")));
/// let inserted = client::insert_many(&pool, runs).await?;
/// println!("{inserted} of 1000 were not open yet");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Invalid`] names the run at fault; otherwise what the database answers.
pub async fn insert_many(executor: impl PgExecutor<'_>, runs: impl IntoIterator<Item = NewRun>) -> Result<u64> {
    let runs: Vec<NewRun> = runs.into_iter().collect();
    if runs.is_empty() {
        return Ok(0);
    }
    if runs.len() > RUNS_MAX {
        return Err(Error::invalid("runs", format!("{} in one call, more than the limit of {RUNS_MAX}", runs.len())));
    }
    let targets = runs.iter().map(NewRun::check).collect::<Result<Vec<_>>>()?;
    let mut queues: BTreeMap<&str, i64> = BTreeMap::new();
    for queue in runs.iter().filter_map(|run| run.queue.as_deref()) {
        *queues.entry(queue).or_default() += 1;
    }
    let keys: BTreeSet<&str> = runs.iter().filter_map(|run| run.concurrency_key.as_deref()).collect();
    let tags: Vec<_> = runs.iter().map(|run| (!run.tags.is_empty()).then(|| array_literal(&run.tags))).collect();

    // A row that may conflict is written twice, tentatively first: a quarter more WAL records.
    let statement = if runs.iter().any(|run| run.unique_key.is_some()) {
        concat!(
            include_str!("../sql/client/new_runs.sql"),
            "on conflict (unique_key) where unique_key is not null do nothing"
        )
    } else {
        include_str!("../sql/client/new_runs.sql")
    };
    let result = sqlx::query(statement)
        .bind(runs.iter().map(|run| run.handler.as_str()).collect::<Vec<_>>())
        .bind(column(&runs, |run| run.payload.as_deref()))
        .bind(column(&runs, |run| run.queue.as_deref()))
        .bind(column(&runs, |run| run.priority))
        .bind(column(&runs, run_at))
        .bind(column(&runs, delay))
        .bind(column(&runs, |run| run.max_attempts))
        .bind(column(&runs, |run| run.retry.as_deref()))
        .bind(column(&runs, timeout))
        .bind(column(&runs, |run| run.start_deadline))
        .bind(column(&runs, |run| run.unique_key.as_deref()))
        .bind(column(&runs, |run| run.concurrency_key.as_deref()))
        .bind(column(&targets, Option::as_deref))
        .bind(queues.keys().copied().collect::<Vec<_>>())
        .bind(keys.into_iter().collect::<Vec<_>>())
        .bind(column(&tags, Option::as_deref))
        .bind(column(&runs, |run| run.callback_url.as_deref()))
        .bind(column(&runs, |run| run.notify_channel.as_deref()))
        .bind(queues.into_values().collect::<Vec<_>>())
        .execute(executor)
        .await
        .named()?;
    Ok(result.rows_affected())
}

/// One column of the rows; empty when no row says anything, which the statement reads as the default.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> Option<T>) -> Vec<Option<T>> {
    let column: Vec<Option<T>> = rows.iter().map(value).collect();
    if column.iter().all(Option::is_none) { Vec::new() } else { column }
}

fn run_at(run: &NewRun) -> Option<DateTime<Utc>> {
    match run.start {
        Start::At(at) => Some(at),
        Start::AtOnce | Start::In(_) => None,
    }
}

/// Microseconds from now.
fn delay(run: &NewRun) -> Option<f64> {
    match run.start {
        Start::In(delay) => Some(delay.as_micros() as f64),
        Start::AtOnce | Start::At(_) => None,
    }
}

/// Microseconds; negative for none.
fn timeout(run: &NewRun) -> Option<f64> {
    match run.timeout {
        Timeout::Default => None,
        Timeout::Of(timeout) => Some(timeout.as_micros() as f64),
        Timeout::None => Some(-1.0),
    }
}

/// Texts as one array literal: unnest cannot take lists of different lengths as one array.
fn array_literal(texts: &[String]) -> String {
    let quoted: Vec<_> =
        texts.iter().map(|t| format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
}

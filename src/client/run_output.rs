//! What a run printed and why its attempts failed, as people read it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, Row};

use crate::db::Named;
use crate::error::Result;
use crate::handler::Stream;
use crate::run::RunId;

/// Rows of one page, each of at most 64 KiB.
const PAGE: i64 = 100;

/// How much of an output's end [`end_of_output`] reads, in bytes and in rows.
const END_BYTES: usize = 4096;
const END_ROWS: i64 = 100;

/// Some bytes that a run printed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputRow {
    /// Which attempt.
    pub attempt: i32,
    /// Its order within the attempt.
    pub seq: i32,
    /// `log`, `stdout` or `stderr`.
    pub stream: String,
    /// Any bytes, not only text.
    pub bytes: Vec<u8>,
    /// How many bytes were left out here; then `bytes` is a remark that says so.
    pub cut_bytes: Option<i64>,
    /// When it was stored.
    pub at: DateTime<Utc>,
}

impl<'r> FromRow<'r, PgRow> for OutputRow {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            attempt: row.try_get("attempt")?,
            seq: row.try_get("seq")?,
            stream: row.try_get("stream")?,
            bytes: row.try_get("bytes")?,
            cut_bytes: row.try_get("cut_bytes")?,
            at: row.try_get("at")?,
        })
    }
}

/// Reads a run's output in order, and goes on where it was: of all attempts, whichever worker had them.
#[derive(Debug, Clone)]
pub struct RunOutput {
    run: RunId,
    attempt: Option<i32>,
    stream: Option<Stream>,
    seen: BTreeMap<i32, i32>,
}

impl RunOutput {
    /// All output of this run, from its beginning.
    pub fn of(run: RunId) -> Self {
        Self { run, attempt: None, stream: None, seen: BTreeMap::new() }
    }

    /// Only of this attempt.
    #[must_use]
    pub fn attempt(self, attempt: i32) -> Self {
        Self { attempt: Some(attempt), ..self }
    }

    /// Only of this stream.
    #[must_use]
    pub fn stream(self, stream: Stream) -> Self {
        Self { stream: Some(stream), ..self }
    }

    /// The next rows, at most 100; none when there are no more yet.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn next(&mut self, executor: impl PgExecutor<'_>) -> Result<Vec<OutputRow>> {
        let (attempts, seqs): (Vec<i32>, Vec<i32>) = self.seen.iter().unzip();
        let rows: Vec<OutputRow> = sqlx::query_as(include_str!("../sql/client/read_output.sql"))
            .bind(self.run)
            .bind(attempts)
            .bind(seqs)
            .bind(self.attempt)
            .bind(self.stream.map(Stream::as_str))
            .bind(PAGE)
            .fetch_all(executor)
            .await
            .named()?;
        self.seen.extend(rows.iter().map(|row| (row.attempt, row.seq)));
        Ok(rows)
    }
}

/// The last 4 KiB that a run printed, as text; what is no UTF-8 is replaced.
///
/// # Errors
/// What the database answers.
pub async fn end_of_output(executor: impl PgExecutor<'_>, run: RunId) -> Result<String> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(include_str!("../sql/client/end_of_output.sql"))
        .bind(run)
        .bind(END_ROWS)
        .fetch_all(executor)
        .await
        .named()?;
    let all = rows.into_iter().rev().flatten().collect::<Vec<u8>>();
    Ok(String::from_utf8_lossy(&all[all.len().saturating_sub(END_BYTES)..]).into_owned())
}

/// Why one attempt failed.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RunError {
    /// Which attempt.
    pub attempt: i32,
    /// `error`, `fatal`, `panic`, `timeout`, `worker_lost` and the like.
    pub kind: String,
    /// What was said.
    pub message: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl<'r> FromRow<'r, PgRow> for RunError {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            attempt: row.try_get("attempt")?,
            kind: row.try_get("kind")?,
            message: row.try_get("message")?,
            at: row.try_get("at")?,
        })
    }
}

/// Why each attempt of a run failed, the first failure first.
///
/// # Errors
/// What the database answers.
pub async fn run_errors(executor: impl PgExecutor<'_>, run: RunId) -> Result<Vec<RunError>> {
    let query = sqlx::query_as(include_str!("../sql/client/run_errors.sql"));
    query.bind(run).fetch_all(executor).await.named()
}

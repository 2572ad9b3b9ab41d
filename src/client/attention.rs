//! What needs a person.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use crate::db::Named;
use crate::error::Result;

/// How bad it is.
///
/// ```
/// use watchbell::client::Severity;
///
/// assert!(Severity::Critical < Severity::Warning); // the worst comes first
/// assert_eq!(Severity::Critical.to_string(), "critical");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// Work is not done.
    Critical,
    /// It soon may not be.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        })
    }
}

/// One thing that needs a person, with the reason and what to run next.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{self, AttentionRow};
///
/// for AttentionRow { severity, kind, subject_kind, subject, since, reason, command, .. } in client::attention(&pool).await? {
///     println!("{severity} {kind}: {subject_kind} {subject}, {reason}");
///     println!("  since {since:?}; next: {command}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AttentionRow {
    /// How bad it is.
    pub severity: Severity,
    /// What is the matter, a word for programs: `overdue`, `failing`, `no_worker` and so on.
    pub kind: String,
    /// What it is about: `schedule`, `queue`, `run`, `worker`, `handler`, `watch` or `database`.
    pub subject_kind: String,
    /// Its name; of a run its number.
    pub subject: String,
    /// Since when; none where that is not known.
    pub since: Option<DateTime<Utc>>,
    /// One sentence with the value and the limit.
    pub reason: String,
    /// What to run next: a line of the command line, or a statement in SQL.
    pub command: String,
}

impl AttentionRow {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let severity: &str = row.try_get("severity")?;
        Ok(Self {
            severity: if severity == "critical" { Severity::Critical } else { Severity::Warning },
            kind: row.try_get("kind")?,
            subject_kind: row.try_get("subject_kind")?,
            subject: row.try_get("subject")?,
            since: row.try_get("since")?,
            reason: row.try_get("reason")?,
            command: row.try_get("command")?,
        })
    }
}

/// Reads what needs a person, the worst first, 1,000 at most; empty when nothing does.
///
/// It looks at a bounded number of rows, however many there are.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// assert!(watchbell::client::attention(&pool).await?.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the database answers.
pub async fn attention(executor: impl PgExecutor<'_>) -> Result<Vec<AttentionRow>> {
    let rows = sqlx::query(include_str!("../sql/client/attention.sql")).fetch_all(executor).await.named()?;
    rows.iter().map(AttentionRow::read).collect::<Result<_, _>>().named()
}

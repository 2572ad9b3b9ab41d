//! The part of the cluster's values that is read from people's own tables.
//!
//! Nothing is known of these: one may be gone, locked, or slow to read. So each watch is read within a savepoint of
//! its own that is always rolled back, for a quarter of a second at most, and all of them for a few seconds. In
//! another order every time, so that slow tables do not always keep the same ones from being read.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

const WATCHES: &str = include_str!("../../sql/8_metrics_watches.sql");
const WATCH: &str = include_str!("../../sql/8_metrics_watch.sql");

/// How many watches have values, at most.
pub const WATCHES_MAX: i64 = 100;

/// How many rows of a state are counted, at most.
pub const ROWS_MAX: i32 = 10_000;

/// How long reading all watches may take, up to the start of the last.
const ALL: Duration = Duration::from_secs(3);

/// The engine's sessions are set for its own statements; these are over tables that may have no index.
const BOUNDS: &str = "select set_config('statement_timeout', '250ms', true), set_config('lock_timeout', '50ms', true),
    set_config('enable_seqscan', 'on', true), set_config('enable_bitmapscan', 'on', true)";

/// One watch. What could not be read, or is not known, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchValues {
    /// Its name.
    pub name: String,
    /// Who is to be told of it; empty if nobody is named.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Whether nobody takes its rows.
    pub paused: bool,
    /// How many of its states have waiting rows that could not be counted.
    pub uncounted: i64,
    /// Rows in a state from which they are taken and that its filter lets through, as far as they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<i64>,
    /// How long the oldest of them has been there, in seconds; 0 if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<f64>,
}

/// Reads the watches, by name. Of one whose table cannot be read only that is known.
///
/// `conn` is in a transaction.
pub(super) async fn watches(conn: &mut PgConnection, now: Option<DateTime<Utc>>) -> sqlx::Result<Vec<WatchValues>> {
    let mut found: Vec<(String, String, bool, i64)> =
        sqlx::query_as(WATCHES).bind(WATCHES_MAX).fetch_all(&mut *conn).await?;
    fastrand::shuffle(&mut found);
    let (began, mut values) = (Instant::now(), Vec::with_capacity(found.len()));
    for (name, owner, paused, states) in found {
        if began.elapsed() > ALL {
            break;
        }
        let (pending, oldest_pending, uncounted) = watch(conn, &name, now).await?.unwrap_or((None, None, states));
        values.push(WatchValues { name, owner, paused, uncounted, pending, oldest_pending });
    }
    values.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(values)
}

type Counted = (Option<i64>, Option<f64>, i64);

/// `None`: its table could not be read.
async fn watch(conn: &mut PgConnection, name: &str, now: Option<DateTime<Utc>>) -> sqlx::Result<Option<Counted>> {
    let mut attempt = conn.begin().await?;
    sqlx::query(BOUNDS).execute(&mut *attempt).await?;
    let read: sqlx::Result<Option<Counted>> =
        sqlx::query_as(WATCH).bind(name).bind(ROWS_MAX).bind(now).fetch_optional(&mut *attempt).await;
    // also after success: the lock on the table and the settings go with it
    attempt.rollback().await?;
    match read {
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(watch = name, %error, "the rows of a watch could not be counted");
            Ok(None)
        }
        read => read,
    }
}

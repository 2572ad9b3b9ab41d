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
pub struct WatchValues {
    /// Its name.
    pub name: String,
    /// Rows in a state from which they are taken, as far as they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<i64>,
    /// How long the oldest of them has been there, in seconds; 0 if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<f64>,
}

/// Reads the watches, by name; those that cannot be read are left out.
///
/// `conn` is in a transaction.
pub(super) async fn watches(conn: &mut PgConnection, now: Option<DateTime<Utc>>) -> sqlx::Result<Vec<WatchValues>> {
    let mut names: Vec<String> = sqlx::query_scalar(WATCHES).bind(WATCHES_MAX).fetch_all(&mut *conn).await?;
    fastrand::shuffle(&mut names);
    let (began, mut values) = (Instant::now(), Vec::with_capacity(names.len()));
    for name in names {
        if began.elapsed() > ALL {
            break;
        }
        values.extend(watch(conn, name, now).await?);
    }
    values.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(values)
}

async fn watch(conn: &mut PgConnection, name: String, now: Option<DateTime<Utc>>) -> sqlx::Result<Option<WatchValues>> {
    let mut attempt = conn.begin().await?;
    sqlx::query(BOUNDS).execute(&mut *attempt).await?;
    let read: sqlx::Result<Option<(Option<i64>, Option<f64>)>> =
        sqlx::query_as(WATCH).bind(&name).bind(ROWS_MAX).bind(now).fetch_optional(&mut *attempt).await;
    // also after success: the lock on the table and the settings go with it
    attempt.rollback().await?;
    match read {
        Ok(found) => Ok(found.map(|(pending, oldest_pending)| WatchValues { name, pending, oldest_pending })),
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(watch = name, %error, "the rows of a watch could not be counted");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

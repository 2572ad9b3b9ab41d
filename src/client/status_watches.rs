//! Watches on the screen of everything: what waits, what is in work, what failed.

use std::time::Duration;

use chrono::TimeDelta;
use serde::Serialize;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};
use tokio::time::Instant;

use super::schedule_list::{elapsed, words};
use crate::db::Named;
use crate::error::Result;

/// Rows of each state that are counted, and errors of the last hour.
const COUNTED_MAX: i32 = 1000;
/// How long the counting of all watches together may take; of what comes later nothing is counted.
const ALL: Duration = Duration::from_secs(2);
/// A table that somebody holds, or one without an index, is not waited for.
const BOUNDS: &str = "select set_config('statement_timeout', '250ms', true), set_config('lock_timeout', '50ms', true)";

/// A watch and what is to do in it.
///
/// ```
/// use watchbell::client::WatchLoadRow;
///
/// fn told(watch: &WatchLoadRow) -> String {
///     let WatchLoadRow { name, table_name, status, waiting, capped, waits_for, in_work, retrying, .. } = watch;
///     let WatchLoadRow { failed, errors, .. } = watch;
///     format!(
///         "{name} on {table_name} ({status}): {waiting:?} wait ({capped}), the oldest for {waits_for:?}, {in_work} in \
///          work, {retrying} wait for a retry, {failed:?} have failed, {errors:?} errors in an hour"
///     )
/// }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WatchLoadRow {
    /// Its name.
    pub name: String,
    /// Its table.
    pub table_name: String,
    /// `pending`, `normal`, `invalid` or `paused`.
    pub status: String,
    /// Rows that stand where a step begins, at most 1,000 of each state; none if they could not be counted in time, or
    /// by this login.
    pub waiting: Option<i64>,
    /// There are more, of which only so many were counted.
    pub capped: bool,
    /// How long the oldest of them has stood there, if the watch has a `since_column`.
    #[serde(serialize_with = "words")]
    pub waits_for: Option<TimeDelta>,
    /// Rows that a worker has under a lease, at most 10,000 with the following.
    pub in_work: i64,
    /// Rows that wait for another attempt.
    pub retrying: i64,
    /// Rows that stand at an error state, at most 1,000 of each.
    pub failed: Option<i64>,
    /// Attempts that failed in the last hour, at most 1,000.
    pub errors: Option<i64>,
}

/// Reads the first watches by name; `connection` is in a transaction.
pub(super) async fn watches(connection: &mut PgConnection, most: i64) -> Result<Vec<WatchLoadRow>> {
    let list = sqlx::query(include_str!("../sql/client/status_watches.sql")).bind(most);
    let list = list.fetch_all(&mut *connection).await.named()?;
    let mut rows = list.iter().map(read).collect::<Result<Vec<_>, _>>().named()?;
    let began = Instant::now();
    for row in &mut rows {
        if began.elapsed() > ALL {
            break;
        }
        count(connection, row).await.named()?;
    }
    Ok(rows)
}

fn read(row: &PgRow) -> sqlx::Result<WatchLoadRow> {
    Ok(WatchLoadRow {
        name: row.try_get("name")?,
        table_name: row.try_get("table_name")?,
        status: row.try_get("status")?,
        waiting: None,
        capped: row.try_get("capped")?,
        waits_for: None,
        in_work: row.try_get("in_work")?,
        retrying: row.try_get("retrying")?,
        failed: None,
        errors: None,
    })
}

/// Counts behind a savepoint: a table that cannot be read leaves its watch without these figures.
async fn count(connection: &mut PgConnection, row: &mut WatchLoadRow) -> sqlx::Result<()> {
    let mut attempt = connection.begin().await?;
    sqlx::query(BOUNDS).execute(&mut *attempt).await?;
    let counted = sqlx::query(include_str!("../sql/client/status_watch.sql")).bind(&row.name).bind(COUNTED_MAX);
    let counted = counted.fetch_one(&mut *attempt).await;
    attempt.rollback().await?;
    match counted {
        Ok(counted) => {
            row.waiting = counted.try_get("waiting")?;
            row.capped |= counted.try_get::<bool, _>("capped")?;
            row.waits_for = elapsed(&counted, "waits_for")?;
            row.failed = counted.try_get("failed")?;
            row.errors = counted.try_get("errors")?;
            Ok(())
        }
        Err(sqlx::Error::Database(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

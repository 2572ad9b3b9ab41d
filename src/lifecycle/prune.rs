//! Prune: make the days ahead, drop the days that are old, mend small things.
//!
//! **In** partitions, pauses that ran out, counters that may have drifted. **Out** the same in order.
//! **Lock** an advisory transaction lock, so that one replica does it; DDL with a lock timeout of 100 ms, so
//! that a reader who holds a partition delays finishes by no more than that. **Crash** the next minute's
//! pass, of any worker, does it.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Connection, PgConnection, postgres::types::PgInterval};

use crate::metrics::{self, list};

const MEND_DELAY: &str = include_str!("../sql/6_mend_delay.sql");
const MEND_COPIES: &str = include_str!("../sql/6_mend_copies.sql");
const MEND_LIMITS_LOCK: &str = include_str!("../sql/6_mend_limits_lock.sql");
const MEND_LIMITS: &str = include_str!("../sql/6_mend_limits.sql");
const STRANDED: &str = include_str!("../sql/6_stranded.sql");
const RESUME: &str = include_str!("../sql/6_resume.sql");
const DAYS: &str = include_str!("../sql/6_days.sql");
const FORGET: &str = include_str!("../sql/6_forget.sql");

/// How many days of partitions stand ready. Fewer than two means: someone holds a lock for days.
const DAYS_AHEAD: i32 = 14;

/// What a pass did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Another worker was at it.
    pub skipped: bool,
    /// Partitions dropped.
    pub dropped: Vec<String>,
    /// Schedules and limits put right.
    pub mended: u64,
}

/// Makes the days ahead; called at start and when a finish meets a missing day.
pub async fn make_days(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select watchbell.make_days($1)").bind(DAYS_AHEAD).execute(conn).await.map(drop)
}

/// Makes one missing day of `fires`, for a fire time outside the days that stand ready.
pub async fn make_day(conn: &mut PgConnection, parent: &str, day: NaiveDate) -> sqlx::Result<()> {
    sqlx::query("select watchbell.make_day($1, $2)").bind(parent).bind(day).execute(conn).await.map(drop)
}

/// One pass, about once a minute.
pub async fn prune(conn: &mut PgConnection, retention: Duration, now: Option<DateTime<Utc>>) -> sqlx::Result<Pruned> {
    let mut lock = conn.begin().await?;
    let mine: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended('watchbell:prune', 0))")
        .fetch_one(&mut *lock)
        .await?;
    if !mine {
        return Ok(Pruned { skipped: true, ..Pruned::default() });
    }
    let mut pruned = Pruned::default();
    pruned.mended += sqlx::query(RESUME).bind(now).execute(&mut *lock).await?.rows_affected();
    pruned.mended += sqlx::query(MEND_DELAY).bind(now).execute(&mut *lock).await?.rows_affected();
    pruned.mended += sqlx::query(MEND_COPIES).bind(now).execute(&mut *lock).await?.rows_affected();
    pruned.mended += end_stranded(&mut lock, false, now).await?;
    let keys: Vec<String> = sqlx::query_scalar(MEND_LIMITS_LOCK).fetch_all(&mut *lock).await?;
    if !keys.is_empty() {
        pruned.mended += sqlx::query(MEND_LIMITS).bind(keys).execute(&mut *lock).await?.rows_affected();
    }
    sqlx::query(FORGET).execute(&mut *lock).await?;
    lock.commit().await?;
    make_days(conn).await?;
    pruned.dropped = drop_days(conn, retention).await?;
    Ok(pruned)
}

/// Cancels waiting runs that are aimed at a worker which has ended. `everywhere` reads all open runs, as after a
/// death; otherwise those of schedules with target `all`, and all of them if a worker ended within two minutes.
pub async fn end_stranded(conn: &mut PgConnection, everywhere: bool, now: Option<DateTime<Utc>>) -> sqlx::Result<u64> {
    let ended: i32 = sqlx::query_scalar(STRANDED).bind(everywhere).bind(now).fetch_one(conn).await?;
    Ok(u64::from(ended.unsigned_abs()))
}

/// Drops the days that are older than `retention`; one that a reader holds is left for the next pass.
/// Table by table, each in a transaction of its own: the lock on one is not held while another is waited for.
async fn drop_days(conn: &mut PgConnection, retention: Duration) -> sqlx::Result<Vec<String>> {
    let interval =
        PgInterval { months: 0, days: 0, microseconds: i64::try_from(retention.as_micros()).unwrap_or(i64::MAX) };
    let parents: Vec<String> =
        sqlx::query_scalar("select unnest(watchbell.day_parents())").fetch_all(&mut *conn).await?;
    let mut dropped = vec![];
    for parent in parents {
        let rows: HashMap<String, i64> =
            sqlx::query_as(DAYS).bind(&parent).fetch_all(&mut *conn).await?.into_iter().collect();
        let days: Vec<(String, Option<String>)> =
            sqlx::query_as("select d.partition, d.problem from watchbell.drop_days($1, $2) d")
                .bind(interval)
                .bind(&parent)
                .fetch_all(&mut *conn)
                .await?;
        for (day, problem) in days {
            match problem {
                None => {
                    let rows = rows.get(&day).map_or(0, |rows| rows.unsigned_abs());
                    metrics::count(&list::RETENTION_DELETED_ROWS, &[&parent], rows);
                    dropped.push(day);
                }
                Some(problem) => tracing::info!("{problem}"),
            }
        }
    }
    Ok(dropped)
}

/// Resumes schedules whose pause has run out.
pub async fn resume(conn: &mut PgConnection, now: Option<DateTime<Utc>>) -> sqlx::Result<u64> {
    Ok(sqlx::query(RESUME).bind(now).execute(conn).await?.rows_affected())
}

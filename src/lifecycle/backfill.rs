//! Backfill: runs for fire times of the past, asked for by `watchbell.backfill()`.
//!
//! **In** a pending row of `backfills`. **Out** its fire times, decided one by one by `expand_backfill()`: a run at
//! the lowest priority for each that has none. **Lock** the schedule, then the backfill, for that one statement;
//! whoever meets either locked leaves it for later. **Crash** the row stays pending, and the next worker takes it.
//!
//! The fire times are computed without a lock; the schedule's version tells whether they still hold under it.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Row};

use super::fire;
use crate::error::is_transient;
use crate::schedule::Schedule;

const PENDING: &str = include_str!("../sql/7_backfill.sql");
const FAILED: &str = include_str!("../sql/7_backfill_failed.sql");
const EXPAND: &str = "select watchbell.expand_backfill($1, $2, $3, $4)";

/// The most fire times of one backfill.
pub const FIRE_TIMES_MAX: usize = 1000;

/// Works a backfill out. False: someone holds its schedule, or edits it all the time; it is still pending.
pub async fn expand(conn: &mut PgConnection, backfill: i64) -> sqlx::Result<bool> {
    // an edit between the two statements is rare, a second one is someone's loop
    for _ in 0..3 {
        let Some(row) = sqlx::query(PENDING).bind(backfill).fetch_optional(&mut *conn).await? else {
            return Ok(true);
        };
        let version: Option<i64> = row.try_get("version")?;
        let (from, to) = (row.try_get("from_at")?, row.try_get("to_at")?);
        let (slots, problem) = match version {
            None => (vec![], None), // the schedule is gone, which the statement says
            Some(_) => match fire::read(&row)? {
                Ok(schedule) => slots(&schedule, from, to),
                Err(reason) => (vec![], Some(reason)),
            },
        };
        let statement = sqlx::query_scalar(EXPAND).bind(backfill).bind(version).bind(slots).bind(problem);
        match statement.fetch_one(&mut *conn).await? {
            Some(true) => return Ok(true),
            Some(false) => {}
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// As [`expand`], for a worker: an answer of the database that would be the same again ends the backfill as failed,
/// so that it cannot stop this worker's other work time after time.
pub async fn work_out(conn: &mut PgConnection, backfill: i64) -> sqlx::Result<bool> {
    match expand(&mut *conn, backfill).await {
        Err(error @ sqlx::Error::Database(_)) if is_transient(&error) => {
            tracing::info!(backfill, %error, "backfill put off for a second");
            Ok(false)
        }
        Err(error @ sqlx::Error::Database(_)) => {
            tracing::warn!(backfill, %error, "backfill failed");
            let query = sqlx::query(FAILED).bind(backfill).bind(error.to_string());
            query.execute(conn).await.map(|_| false)
        }
        done => done,
    }
}

/// The fire times from `from` to `to`, both included; or why they are too many.
fn slots(schedule: &Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> (Vec<DateTime<Utc>>, Option<String>) {
    let mut slots = schedule.upcoming(from - TimeDelta::microseconds(1), FIRE_TIMES_MAX + 1);
    slots.retain(|&slot| slot <= to);
    if slots.len() <= FIRE_TIMES_MAX {
        return (slots, None);
    }
    let last = slots[FIRE_TIMES_MAX - 1].to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    (vec![], Some(format!("the range holds more than {FIRE_TIMES_MAX} fire times; the last that fits is {last}")))
}

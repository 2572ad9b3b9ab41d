//! Runs for fire times of the past.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, Row};

use super::answer::answer;
use crate::db::Named;
use crate::error::{Error, Result};
use crate::lifecycle::backfill::expand;

/// What [`backfill`] did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Backfill {
    /// Its number in `watchbell.backfills`.
    pub id: i64,
    /// The fire times that got a run, or would get one, oldest first.
    pub fire_times: Vec<DateTime<Utc>>,
    /// How many fire times of the range had a run already.
    pub existing: u32,
    /// How many runs were made: none by a dry run.
    pub runs: u32,
}

/// Makes runs for the fire times from `from` to `to`, both included, that have none; at most 1,000.
///
/// For kinds `cron` and `fixed_rate`. The runs have the lowest priority and take turns, the oldest first. A fire
/// time that has a run keeps it, so the same call again makes none. `dry_run` only tells which.
///
/// It needs no worker: the fire times are computed here and decided in the caller's transaction, if there is one.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] for a range that is too large, reversed or not over yet, or a kind without
/// fire times of the past; [`Error::Conflict`] if someone holds the schedule's row.
pub async fn backfill(
    connection: &mut PgConnection,
    schedule: &str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    dry_run: bool,
) -> Result<Backfill> {
    let call = sqlx::query_scalar("select watchbell.backfill($1, $2, $3, $4)");
    let call = call.bind(schedule).bind(from).bind(to).bind(dry_run);
    let id: i64 = answer("schedule", schedule, call.fetch_one(&mut *connection).await)?;
    if !expand(connection, id).await.named()? {
        let problem = format!("schedule \"{schedule}\" is being changed; a worker does backfill {id} after that");
        return Err(Error::Conflict(problem));
    }
    let query = sqlx::query("select error, fire_times, existing, runs from watchbell.backfills where id = $1");
    let row = query.bind(id).fetch_one(connection).await.named()?;
    if let Some(problem) = row.try_get::<Option<String>, _>("error").named()? {
        return Err(Error::invalid(format!("backfill of schedule \"{schedule}\""), problem));
    }
    let count = |column: &str| row.try_get::<Option<i32>, _>(column).named().map(|n| n.unwrap_or(0).unsigned_abs());
    Ok(Backfill {
        id,
        fire_times: row.try_get::<Option<_>, _>("fire_times").named()?.unwrap_or_default(),
        existing: count("existing")?,
        runs: count("runs")?,
    })
}

//! Streaks: skips that follow one another are one row of `fires`, however many passes they came in.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::schedule::Plan;

const STREAK: &str = include_str!("../../sql/1_fire_streak.sql");

/// The first skips of plans that may go on where a row left off, column by column.
#[derive(Default)]
pub(super) struct Streaks {
    schedule_id: Vec<i64>,
    streak_at: Vec<DateTime<Utc>>,
    last_fire_at: Vec<DateTime<Utc>>,
    disposition: Vec<&'static str>,
    last: Vec<DateTime<Utc>>,
    missed: Vec<i64>,
}

impl Streaks {
    pub(super) fn push(&mut self, id: i64, row: &PgRow, plan: &Plan) -> sqlx::Result<()> {
        let (streak_at, last_fire_at) = (row.try_get("streak_at")?, row.try_get("last_fire_at")?);
        if let (Some(streak_at), Some(last_fire_at), Some(first)) = (streak_at, last_fire_at, plan.fires.first())
            && first.run.is_none()
        {
            self.schedule_id.push(id);
            self.streak_at.push(streak_at);
            self.last_fire_at.push(last_fire_at);
            self.disposition.push(first.disposition.as_str());
            self.last.push(first.until.unwrap_or(first.fire_at));
            self.missed.push(i64::try_from(first.missed).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    /// Adds them to their rows; answers the schedules where that was possible.
    pub(super) async fn extend(self, conn: &mut PgConnection) -> sqlx::Result<HashSet<i64>> {
        if self.schedule_id.is_empty() {
            return Ok(HashSet::new());
        }
        let extended: Vec<i64> = sqlx::query_scalar(STREAK)
            .bind(self.schedule_id)
            .bind(self.streak_at)
            .bind(self.last_fire_at)
            .bind(self.disposition)
            .bind(self.last)
            .bind(self.missed)
            .fetch_all(conn)
            .await?;
        Ok(extended.into_iter().collect())
    }
}

/// Where the streak of a schedule began that lasts after this plan, if one does.
pub(super) fn begun(row: &PgRow, plan: &Plan, extended: bool) -> sqlx::Result<Option<DateTime<Utc>>> {
    match plan.fires.as_slice() {
        [] => row.try_get("streak_at"),
        [only] if extended && only.run.is_none() => row.try_get("streak_at"),
        [.., last] => Ok(last.run.is_none().then_some(last.fire_at)),
    }
}

//! The copies of schedules that are kept alive: read before they are planned, written after their runs were made.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Row};

use crate::schedule::{Kept, NextCopy, Standing};

const COPIES: &str = include_str!("../../sql/1_fire_copies.sql");
const WRITE: &str = include_str!("../../sql/1_fire_copies_write.sql");

/// The copies of these schedules, and what became of their runs by `now`.
pub(super) async fn standing(
    conn: &mut PgConnection,
    ids: &[i64],
    now: DateTime<Utc>,
) -> sqlx::Result<HashMap<i64, Vec<Kept>>> {
    let mut standing: HashMap<i64, Vec<Kept>> = HashMap::new();
    if ids.is_empty() {
        return Ok(standing);
    }
    for row in sqlx::query(COPIES).bind(ids).fetch_all(conn).await? {
        let restart_at: Option<DateTime<Utc>> = row.try_get("restart_at")?;
        let finished_at: Option<DateTime<Utc>> = row.try_get("finished_at")?;
        let state = match (restart_at, row.try_get("open")?) {
            (Some(at), _) => Standing::Waiting(at),
            (None, true) => Standing::Open,
            // a run that is not there at all was deleted by hand
            (None, false) => Standing::Ended {
                at: finished_at.unwrap_or(now),
                lived: row.try_get::<Option<i64>, _>("lived_ms")?.map(TimeDelta::milliseconds),
            },
        };
        standing.entry(row.try_get("schedule_id")?).or_default().push(Kept {
            number: row.try_get::<Option<i32>, _>("copy")?.map(i32::unsigned_abs),
            run: row.try_get("run_id")?,
            state,
            restarts: row.try_get::<i32, _>("restarts")?.unsigned_abs(),
        });
    }
    Ok(standing)
}

/// The copies as they are from now on, column by column.
#[derive(Default)]
pub(super) struct Copies {
    schedules: Vec<i64>,
    schedule_id: Vec<i64>,
    copy: Vec<i32>,
    run_id: Vec<Option<i64>>,
    fire_at: Vec<Option<DateTime<Utc>>>,
    restart_at: Vec<Option<DateTime<Utc>>>,
    restarts: Vec<i32>,
}

impl Copies {
    pub(super) fn push(&mut self, id: i64, copies: Vec<NextCopy>) {
        self.schedules.push(id);
        for copy in copies {
            self.schedule_id.push(id);
            self.copy.push(copy.number.cast_signed());
            self.run_id.push(copy.run);
            self.fire_at.push(copy.fire_at);
            self.restart_at.push(copy.restart_at);
            self.restarts.push(i32::try_from(copy.restarts).unwrap_or(i32::MAX));
        }
    }

    pub(super) async fn write(self, conn: &mut PgConnection) -> sqlx::Result<()> {
        if self.schedules.is_empty() {
            return Ok(());
        }
        sqlx::query(WRITE)
            .bind(self.schedules)
            .bind(self.schedule_id)
            .bind(self.copy)
            .bind(self.run_id)
            .bind(self.fire_at)
            .bind(self.restart_at)
            .bind(self.restarts)
            .execute(conn)
            .await
            .map(drop)
    }
}

//! Schedules that run on every worker: who that is now, and the runs, each aimed at one of them.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{PgConnection, Row};

use crate::schedule::{FleetPlan, Member, Open};

const FLEET: &str = include_str!("../../sql/1_fire_fleet.sql");
const INSERT: &str = include_str!("../../sql/1_fire_fleet_insert.sql");

/// The live workers that match each of these schedules.
pub(super) async fn members(
    conn: &mut PgConnection,
    ids: &[i64],
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<HashMap<i64, Vec<Member>>> {
    let mut members: HashMap<i64, Vec<Member>> = HashMap::new();
    if ids.is_empty() {
        return Ok(members);
    }
    for row in sqlx::query(FLEET).bind(ids).bind(now).fetch_all(conn).await? {
        let (total, waiting): (i32, i32) = (row.try_get("total")?, row.try_get("waiting")?);
        members.entry(row.try_get("id")?).or_default().push(Member {
            worker: row.try_get("worker")?,
            open: Open { total: total.unsigned_abs(), waiting: waiting.unsigned_abs() },
            runs: row.try_get("runs")?,
        });
    }
    Ok(members)
}

/// Rows for `fires` and their runs, one for each run, column by column.
#[derive(Default)]
pub(super) struct Fleet {
    schedule_id: Vec<i64>,
    fire_at: Vec<DateTime<Utc>>,
    disposition: Vec<&'static str>,
    workers: Vec<i32>,
    worker: Vec<i32>,
    run_at: Vec<DateTime<Utc>>,
    start_deadline: Vec<Option<DateTime<Utc>>>,
    trigger: Vec<&'static str>,
    serialized: Vec<bool>,
}

impl Fleet {
    pub(super) fn push(&mut self, id: i64, plan: &FleetPlan) {
        for start in &plan.starts {
            self.schedule_id.push(id);
            self.fire_at.push(start.fire_at);
            self.disposition.push(start.disposition.as_str());
            self.workers.push(i32::try_from(plan.workers).unwrap_or(i32::MAX));
            self.worker.push(start.worker);
            self.run_at.push(start.run.run_at);
            self.start_deadline.push(start.run.start_deadline);
            self.trigger.push(start.run.trigger.as_str());
            self.serialized.push(start.run.serialized);
        }
    }

    /// The days that they need.
    pub(super) fn days(&self) -> impl Iterator<Item = NaiveDate> {
        self.fire_at.iter().map(DateTime::date_naive)
    }

    pub(super) async fn insert(self, conn: &mut PgConnection, now: Option<DateTime<Utc>>) -> sqlx::Result<()> {
        if self.schedule_id.is_empty() {
            return Ok(());
        }
        sqlx::query(INSERT)
            .bind(self.schedule_id)
            .bind(self.fire_at)
            .bind(self.disposition)
            .bind(self.workers)
            .bind(self.worker)
            .bind(self.run_at)
            .bind(self.start_deadline)
            .bind(self.trigger)
            .bind(self.serialized)
            .bind(now)
            .execute(conn)
            .await
            .map(drop)
    }
}

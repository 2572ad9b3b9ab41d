//! What the fire stage writes of schedules and their slots, column by column.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use sqlx::PgConnection;

use crate::schedule::{Fire, Plan};

const INSERT: &str = include_str!("../../sql/1_fire_insert.sql");
const ADVANCE: &str = include_str!("../../sql/1_fire_advance.sql");

/// Rows for `fires` and their runs, column by column.
#[derive(Default)]
pub(super) struct Fires {
    schedule_id: Vec<i64>,
    fire_at: Vec<DateTime<Utc>>,
    disposition: Vec<&'static str>,
    until: Vec<Option<DateTime<Utc>>>,
    missed: Vec<i64>,
    run_at: Vec<Option<DateTime<Utc>>>,
    start_deadline: Vec<Option<DateTime<Utc>>>,
    trigger: Vec<Option<&'static str>>,
    serialized: Vec<bool>,
}

impl Fires {
    /// The slots of a plan, but for those that a fleet's runs go with.
    pub(super) fn push(&mut self, id: i64, fires: &[Fire]) {
        for fire in fires {
            self.schedule_id.push(id);
            self.fire_at.push(fire.fire_at);
            self.disposition.push(fire.disposition.as_str());
            self.until.push(fire.until);
            self.missed.push(i64::try_from(fire.missed).unwrap_or(i64::MAX));
            self.run_at.push(fire.run.map(|run| run.run_at));
            self.start_deadline.push(fire.run.and_then(|run| run.start_deadline));
            self.trigger.push(fire.run.map(|run| run.trigger.as_str()));
            self.serialized.push(fire.run.is_some_and(|run| run.serialized));
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
            .bind(self.until)
            .bind(self.missed)
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

/// How the schedules move on, column by column.
#[derive(Default)]
pub(super) struct Moves {
    id: Vec<i64>,
    wake_at: Vec<Option<DateTime<Utc>>>,
    status: Vec<&'static str>,
    error: Vec<Option<String>>,
    anchor_at: Vec<Option<DateTime<Utc>>>,
    last_fire_at: Vec<Option<DateTime<Utc>>>,
    fired: Vec<i64>,
    crash_loop_since: Vec<Option<DateTime<Utc>>>,
    streak_at: Vec<Option<DateTime<Utc>>>,
    wall: Vec<Option<NaiveDateTime>>,
    zone: Vec<Option<String>>,
}

/// What moves on with a schedule beside its plan.
#[derive(Default)]
pub(super) struct Marks {
    /// Since when a copy of it ends again and again.
    pub(super) crash_loop_since: Option<DateTime<Utc>>,
    /// The row that its streak of skips began with.
    pub(super) streak_at: Option<DateTime<Utc>>,
    /// What clocks show at its next fire time, and in which zone; none for UTC.
    pub(super) wall: Option<(NaiveDateTime, String)>,
}

impl Moves {
    pub(super) fn push(&mut self, id: i64, plan: &Plan, marks: Marks) {
        self.id.push(id);
        self.wake_at.push(plan.wake_at);
        self.status.push(plan.status.as_str());
        self.error.push(None);
        self.anchor_at.push(plan.anchor_at);
        self.last_fire_at.push(plan.last_fire_at());
        self.fired.push(plan.runs());
        self.mark(marks);
    }

    /// `wake_at` becomes infinity: otherwise a row that cannot be planned heads the due ones for ever.
    pub(super) fn refuse(&mut self, id: i64, reason: String) {
        self.id.push(id);
        self.wake_at.push(None);
        self.status.push("invalid");
        self.error.push(Some(reason));
        self.anchor_at.push(None);
        self.last_fire_at.push(None);
        self.fired.push(0);
        self.mark(Marks::default());
    }

    fn mark(&mut self, marks: Marks) {
        let (wall, zone) = marks.wall.unzip();
        self.crash_loop_since.push(marks.crash_loop_since);
        self.streak_at.push(marks.streak_at);
        self.wall.push(wall);
        self.zone.push(zone);
    }

    /// Answers where the database's clocks show something else: the schedule and the sentence.
    pub(super) async fn write(self, conn: &mut PgConnection) -> sqlx::Result<HashMap<i64, String>> {
        let rows = sqlx::query_as(ADVANCE)
            .bind(self.id)
            .bind(self.wake_at)
            .bind(self.status)
            .bind(self.error)
            .bind(self.anchor_at)
            .bind(self.last_fire_at)
            .bind(self.fired)
            .bind(self.crash_loop_since)
            .bind(self.streak_at)
            .bind(self.wall)
            .bind(self.zone)
            .fetch_all(conn)
            .await?;
        Ok(rows.into_iter().collect())
    }
}

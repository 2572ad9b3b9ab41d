//! Fire: turn due schedules into runs.
//!
//! **In** schedules that are not paused and whose `wake_at` has come; a row just written or edited stands at
//! `-infinity` and so comes first. **Out** one row in `fires` per fire time, a run for those that act, the
//! schedule's next `wake_at` and status. **Lock** the schedules taken (others are skipped), from the first
//! statement to the commit, a few milliseconds. **Crash** before the commit: nothing happened, the next
//! worker finds the same schedules due. No fire time can act twice: the schedule's row lock serialises, and
//! the key of `fires` is the proof.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};

use super::prune::make_day;
use crate::{
    error::is_missing_day,
    schedule::{Dst, Misfire, Open, Plan, Schedule, Spec, plan},
};

const DUE: &str = include_str!("../sql/1_fire_due.sql");
const OPEN: &str = include_str!("../sql/1_fire_open.sql");
const INSERT: &str = include_str!("../sql/1_fire_insert.sql");
const ADVANCE: &str = include_str!("../sql/1_fire_advance.sql");
const CANCEL: &str = include_str!("../sql/1_fire_cancel.sql");

/// What one pass did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fired {
    /// Schedules that were due, or new.
    pub schedules: usize,
    /// Runs made.
    pub runs: u64,
    /// Fire times (or gaps) that made no run.
    pub skipped: u64,
    /// Schedules that were found invalid: name and reason.
    pub invalid: Vec<(String, String)>,
    /// The largest time between a fire time and the database's now, of those that made a run.
    pub late_max: TimeDelta,
    /// What was decided: the schedule, the disposition, and how many fire times it is.
    pub decided: Vec<(String, &'static str, u64)>,
}

impl Fired {
    fn note(&mut self, schedule: &str, plan: &Plan) {
        for fire in &plan.fires {
            let result = fire.disposition.as_str();
            match self.decided.last_mut() {
                Some((name, last, times)) if name == schedule && *last == result => *times += fire.missed.max(1),
                _ => self.decided.push((schedule.to_owned(), result, fire.missed.max(1))),
            }
        }
    }
}

/// Fires up to `limit` due schedules. A result with `schedules == limit` asks to be called again.
pub async fn fire(conn: &mut PgConnection, limit: i64, now: Option<DateTime<Utc>>) -> sqlx::Result<Fired> {
    let mut days = BTreeSet::new();
    match attempt(conn, limit, now, &mut days).await {
        Err(error) if is_missing_day(&error) => {
            // a fire time outside the days that stand ready, years late for example
            for day in std::mem::take(&mut days) {
                make_day(conn, "fires", day).await?;
            }
            attempt(conn, limit, now, &mut days).await
        }
        fired => fired,
    }
}

async fn attempt(
    conn: &mut PgConnection,
    limit: i64,
    now: Option<DateTime<Utc>>,
    days: &mut BTreeSet<NaiveDate>,
) -> sqlx::Result<Fired> {
    let mut tx = conn.begin().await?;
    let rows = sqlx::query(DUE).bind(limit).bind(now).fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        tx.rollback().await?;
        return Ok(Fired::default());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
    let open = open_runs(&mut tx, &ids).await?;
    let mut fired = Fired { schedules: rows.len(), ..Fired::default() };
    let mut fires = Fires::default();
    let mut moves = Moves::default();
    let mut cancel = vec![];
    for row in &rows {
        let id: i64 = row.try_get("id")?;
        let at: DateTime<Utc> = row.try_get("now")?;
        match planned(row, at, open.get(&id).copied().unwrap_or_default())? {
            Ok(plan) => {
                if plan.cancel_open {
                    cancel.push(id);
                }
                fires.push(id, &plan, at, &mut fired);
                fired.note(row.try_get("name")?, &plan);
                moves.push(id, &plan);
            }
            Err(reason) => {
                fired.invalid.push((row.try_get("name")?, reason.clone()));
                moves.refuse(id, reason);
            }
        }
    }
    if !cancel.is_empty() {
        sqlx::query(CANCEL).bind(cancel).execute(&mut *tx).await?;
    }
    days.extend(fires.fire_at.iter().map(DateTime::date_naive));
    fires.insert(&mut tx, now).await?;
    moves.write(&mut tx).await?;
    tx.commit().await?;
    Ok(fired)
}

async fn open_runs(conn: &mut PgConnection, ids: &[i64]) -> sqlx::Result<HashMap<i64, Open>> {
    let rows = sqlx::query(OPEN).bind(ids).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let (total, waiting): (i32, i32) = (row.try_get(1)?, row.try_get(2)?);
            Ok((row.try_get(0)?, Open { total: total.unsigned_abs(), waiting: waiting.unsigned_abs() }))
        })
        .collect()
}

/// What to do about one schedule, or why nothing can be done. Only the database's own errors are `Err`.
fn planned(row: &PgRow, now: DateTime<Utc>, open: Open) -> sqlx::Result<Result<Plan, String>> {
    let schedule = match read(row)? {
        Ok(schedule) => schedule,
        Err(reason) => return Ok(Err(reason)),
    };
    Ok(plan(&schedule, now, open).map_err(|reason| reason.to_string()))
}

fn milliseconds(row: &PgRow, column: &str) -> sqlx::Result<Option<TimeDelta>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(TimeDelta::milliseconds))
}

/// The row as the planner takes it.
pub(super) fn read(row: &PgRow) -> sqlx::Result<Result<Schedule, String>> {
    let word = |column: &str| row.try_get::<&str, _>(column);
    let spec = match read_spec(row)? {
        Ok(spec) => spec,
        Err(reason) => return Ok(Err(reason)),
    };
    let misfire = Misfire::from_columns(
        word("misfire")?,
        milliseconds(row, "misfire_grace_ms")?.unwrap_or_default(),
        milliseconds(row, "catch_up_window_ms")?.unwrap_or_default(),
        row.try_get::<i32, _>("catch_up_limit")?.unsigned_abs(),
    );
    let words = || -> Result<_, crate::schedule::UnknownWord> {
        Ok((
            word("status").unwrap_or_default().parse()?,
            word("overlap").unwrap_or_default().parse()?,
            word("first_fire").unwrap_or_default().parse()?,
            misfire?,
        ))
    };
    let (status, overlap, first_fire, misfire) = match words() {
        Ok(words) => words,
        Err(unknown) => return Ok(Err(unknown.to_string())),
    };
    Ok(Ok(Schedule {
        id: row.try_get("id")?,
        spec,
        status,
        effective_from: row.try_get("effective_from")?,
        anchor_at: row.try_get("anchor_at")?,
        first_fire,
        starts_at: row.try_get("starts_at")?,
        ends_at: row.try_get("ends_at")?,
        max_fires: row.try_get("max_fires")?,
        fires_count: row.try_get("fires_count")?,
        last_fire_at: row.try_get("last_fire_at")?,
        last_finished_at: row.try_get("last_finished_at")?,
        wake_at: row.try_get("wake_at")?,
        overlap,
        max_running: row.try_get::<i32, _>("max_running")?.unsigned_abs(),
        misfire,
        start_deadline: milliseconds(row, "start_deadline_ms")?,
        jitter: milliseconds(row, "jitter_ms")?.unwrap_or_default(),
    }))
}

fn read_spec(row: &PgRow) -> sqlx::Result<Result<Spec, String>> {
    Ok(Ok(match row.try_get::<&str, _>("kind")? {
        "cron" => {
            let (cron, zone): (&str, &str) = (row.try_get("cron")?, row.try_get("timezone")?);
            let dst: Dst = match row.try_get::<&str, _>("dst")?.parse() {
                Ok(dst) => dst,
                Err(unknown) => return Ok(Err(format!("{unknown}"))),
            };
            match Spec::cron(cron, zone, dst) {
                Ok(spec) => spec,
                Err(reason) => return Ok(Err(reason.to_string())),
            }
        }
        "fixed_delay" => Spec::FixedDelay(milliseconds(row, "fixed_delay_ms")?.unwrap_or_default()),
        "fixed_rate" => Spec::FixedRate(milliseconds(row, "fixed_rate_ms")?.unwrap_or_default()),
        _ => Spec::Once(row.try_get("run_at")?),
    }))
}

/// Rows for `fires` and their runs, column by column.
#[derive(Default)]
struct Fires {
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
    fn push(&mut self, id: i64, plan: &Plan, now: DateTime<Utc>, fired: &mut Fired) {
        for fire in &plan.fires {
            self.schedule_id.push(id);
            self.fire_at.push(fire.fire_at);
            self.disposition.push(fire.disposition.as_str());
            self.until.push(fire.until);
            self.missed.push(i64::try_from(fire.missed).unwrap_or(i64::MAX));
            self.run_at.push(fire.run.map(|run| run.run_at));
            self.start_deadline.push(fire.run.and_then(|run| run.start_deadline));
            self.trigger.push(fire.run.map(|run| run.trigger.as_str()));
            self.serialized.push(fire.run.is_some_and(|run| run.serialized));
            if fire.run.is_some() {
                fired.late_max = fired.late_max.max(now - fire.fire_at);
            } else {
                fired.skipped += 1;
            }
        }
        fired.runs += u64::try_from(plan.runs()).unwrap_or(0);
    }

    async fn insert(self, conn: &mut PgConnection, now: Option<DateTime<Utc>>) -> sqlx::Result<()> {
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
struct Moves {
    id: Vec<i64>,
    wake_at: Vec<Option<DateTime<Utc>>>,
    status: Vec<&'static str>,
    error: Vec<Option<String>>,
    anchor_at: Vec<Option<DateTime<Utc>>>,
    last_fire_at: Vec<Option<DateTime<Utc>>>,
    fired: Vec<i64>,
}

impl Moves {
    fn push(&mut self, id: i64, plan: &Plan) {
        self.id.push(id);
        self.wake_at.push(plan.wake_at);
        self.status.push(plan.status.as_str());
        self.error.push(None);
        self.anchor_at.push(plan.anchor_at);
        self.last_fire_at.push(plan.last_fire_at());
        self.fired.push(plan.runs());
    }

    /// `wake_at` becomes infinity: otherwise a row that cannot be planned heads the due ones for ever.
    fn refuse(&mut self, id: i64, reason: String) {
        self.id.push(id);
        self.wake_at.push(None);
        self.status.push("invalid");
        self.error.push(Some(reason));
        self.anchor_at.push(None);
        self.last_fire_at.push(None);
        self.fired.push(0);
    }

    async fn write(self, conn: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(ADVANCE)
            .bind(self.id)
            .bind(self.wake_at)
            .bind(self.status)
            .bind(self.error)
            .bind(self.anchor_at)
            .bind(self.last_fire_at)
            .bind(self.fired)
            .execute(conn)
            .await
            .map(drop)
    }
}

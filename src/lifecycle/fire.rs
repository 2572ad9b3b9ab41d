//! Fire: turn due schedules into runs.
//!
//! **In** schedules that are not paused and whose `wake_at` has come; a row just written or edited stands at
//! `-infinity` and so comes first. **Out** one row in `fires` per fire time, a run for those that act, the
//! schedule's next `wake_at` and status; the copies of those kept alive. **Lock** the schedules taken (others are skipped), from the first
//! statement to the commit, a few milliseconds. **Crash** before the commit: nothing happened, the next
//! worker finds the same schedules due. No fire time can act twice: the schedule's row lock serialises, and
//! the key of `fires` is the proof.

mod columns;
mod copies;
mod fleet;
mod read;
mod streaks;

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};

use self::columns::{Fires, Marks, Moves};
use self::copies::Copies;
use self::fleet::Fleet;
use self::streaks::Streaks;
use super::prune::make_day;
use crate::{
    error::is_missing_day,
    schedule::{FleetPlan, Kept, KeptPlan, Member, Open, Plan, Schedule, Spec, plan},
};

pub(super) use self::read::read;

const DUE: &str = include_str!("../sql/1_fire_due.sql");
const OPEN: &str = include_str!("../sql/1_fire_open.sql");
const CANCEL: &str = include_str!("../sql/1_fire_cancel.sql");
const STOP: &str = include_str!("../sql/1_fire_stop.sql");

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

    fn count(&mut self, plan: &Plan, now: DateTime<Utc>) {
        for fire in &plan.fires {
            if fire.run.is_some() {
                self.late_max = self.late_max.max(now - fire.fire_at);
            } else {
                self.skipped += 1;
            }
        }
        self.runs += u64::try_from(plan.runs()).unwrap_or(0);
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
    let standing = Present::look(&mut tx, &rows, now).await?;
    let mut fired = Fired { schedules: rows.len(), ..Fired::default() };
    let mut planned = vec![];
    let mut moves = Moves::default();
    let mut streaks = Streaks::default();
    for row in &rows {
        match standing.planned(row)? {
            Ok(one) => {
                fired.note(row.try_get("name")?, one.plan());
                streaks.push(one.id, row, one.plan())?;
                planned.push((row, one));
            }
            Err(reason) => {
                fired.invalid.push((row.try_get("name")?, reason.clone()));
                moves.refuse(row.try_get("id")?, reason);
            }
        }
    }
    let extended = streaks.extend(&mut tx).await?;
    let written = Written::of(planned, &extended, moves, &mut fired)?;
    days.extend(written.fires.days().chain(written.fleet.days()));
    let news = written.write(&mut tx, now).await?;
    tx.commit().await?;
    news.tell();
    Ok(fired)
}

/// What the locked schedules have open, as one look found it.
struct Present {
    open: HashMap<i64, Open>,
    copies: HashMap<i64, Vec<Kept>>,
    members: HashMap<i64, Vec<Member>>,
}

impl Present {
    /// Copies and workers are asked for only where a schedule needs them.
    async fn look(conn: &mut PgConnection, rows: &[PgRow], now: Option<DateTime<Utc>>) -> sqlx::Result<Self> {
        let (mut ids, mut kept, mut everywhere) = (vec![], vec![], vec![]);
        for row in rows {
            let id: i64 = row.try_get("id")?;
            ids.push(id);
            if row.try_get("keep_alive")? {
                kept.push(id);
            } else if row.try_get("fleet")? {
                everywhere.push(id);
            }
        }
        let at: DateTime<Utc> = rows.first().map_or(Ok(DateTime::UNIX_EPOCH), |row| row.try_get("now"))?;
        Ok(Self {
            open: open_runs(conn, &ids).await?,
            copies: copies::standing(conn, &kept, at).await?,
            members: fleet::members(conn, &everywhere, now).await?,
        })
    }

    /// What to do about one schedule, or why nothing can be done. Only the database's own errors are `Err`.
    fn planned(&self, row: &PgRow) -> sqlx::Result<Result<Planned, String>> {
        let schedule = match read(row)? {
            Ok(schedule) => schedule,
            Err(reason) => return Ok(Err(reason)),
        };
        let (id, now): (i64, DateTime<Utc>) = (row.try_get("id")?, row.try_get("now")?);
        let open = self.open.get(&id).copied().unwrap_or_default();
        let how = match schedule.spec {
            Spec::FixedDelay(delay) if row.try_get("keep_alive")? => {
                let copies = row.try_get::<i32, _>("copies")?.unsigned_abs();
                let standing = self.copies.get(&id).map_or(&[][..], Vec::as_slice);
                schedule.plan_kept(delay, copies, now, standing).map(How::Kept)
            }
            _ if row.try_get("fleet")? => {
                let members = self.members.get(&id).map_or(&[][..], Vec::as_slice);
                schedule.plan_fleet(now, open, members).map(How::Everywhere)
            }
            _ => plan(&schedule, now, open).map(How::Once),
        };
        Ok(how.map(|how| Planned { id, now, schedule, how }).map_err(|reason| reason.to_string()))
    }
}

/// What is to be done about one schedule.
struct Planned {
    id: i64,
    now: DateTime<Utc>,
    schedule: Schedule,
    how: How,
}

/// How many runs a fire time makes.
enum How {
    Once(Plan),
    Kept(KeptPlan),
    Everywhere(FleetPlan),
}

impl Planned {
    fn plan(&self) -> &Plan {
        match &self.how {
            How::Once(plan) => plan,
            How::Kept(kept) => &kept.plan,
            How::Everywhere(fleet) => &fleet.plan,
        }
    }

    /// What clocks in the zone of a cron schedule show at its next fire time: the database is asked as well.
    fn wall(&self) -> Option<(chrono::NaiveDateTime, String)> {
        let (Spec::Cron(cron), Some(at)) = (&self.schedule.spec, self.plan().wake_at) else { return None };
        (cron.timezone() != "UTC").then(|| (cron.local(at).naive_local(), cron.timezone().to_owned()))
    }
}

/// All that one pass writes, in the order of its statements.
#[derive(Default)]
struct Written {
    cancel: Vec<i64>,
    stop_newer: Vec<i64>,
    stop_surplus: Vec<i64>,
    fires: Fires,
    fleet: Fleet,
    copies: Copies,
    moves: Moves,
    news: News,
}

impl Written {
    fn of(
        planned: Vec<(&PgRow, Planned)>,
        extended: &HashSet<i64>,
        moves: Moves,
        fired: &mut Fired,
    ) -> sqlx::Result<Self> {
        let mut written = Self { moves, ..Self::default() };
        for (row, one) in planned {
            let (id, plan) = (one.id, one.plan());
            fired.count(plan, one.now);
            let mut marks = Marks {
                crash_loop_since: None,
                streak_at: streaks::begun(row, plan, extended.contains(&id))?,
                wall: one.wall(),
            };
            written.news.knew(row, id, marks.wall.is_some())?;
            if plan.cancel_open {
                written.cancel.push(id);
            }
            let fires = if extended.contains(&id) { &plan.fires[1..] } else { &plan.fires[..] };
            if let How::Everywhere(fleet) = &one.how {
                fires.iter().filter(|fire| fire.run.is_none()).for_each(|fire| {
                    written.fires.push(id, std::slice::from_ref(fire));
                });
                written.fleet.push(id, fleet);
                written.stop_newer.extend(&fleet.stop);
            } else {
                written.fires.push(id, fires);
            }
            if let How::Kept(kept) = &one.how {
                let since: Option<DateTime<Utc>> = row.try_get("crash_loop_since")?;
                marks.crash_loop_since = kept.crash_loop.then(|| since.unwrap_or(one.now));
                if since.is_none() && kept.crash_loop {
                    written.news.crash_loops.push(row.try_get("name")?);
                }
                written.stop_surplus.extend(&kept.stop);
            }
            written.moves.push(id, plan, marks);
            if let How::Kept(kept) = one.how {
                written.copies.push(id, kept.copies);
            }
        }
        Ok(written)
    }

    async fn write(self, tx: &mut PgConnection, now: Option<DateTime<Utc>>) -> sqlx::Result<News> {
        if !self.cancel.is_empty() {
            sqlx::query(CANCEL).bind(self.cancel).execute(&mut *tx).await?;
        }
        for (runs, why) in [
            (self.stop_newer, "a newer fire time of its schedule is due"),
            (self.stop_surplus, "its schedule keeps fewer copies alive"),
        ] {
            if !runs.is_empty() {
                sqlx::query(STOP).bind(runs).bind(why).execute(&mut *tx).await?;
            }
        }
        self.fires.insert(tx, now).await?;
        self.fleet.insert(tx, now).await?;
        self.copies.write(tx).await?;
        let mut news = self.news;
        news.differ = self.moves.write(tx).await?;
        Ok(news)
    }
}

/// What an operator should hear of, once.
#[derive(Default)]
struct News {
    crash_loops: Vec<String>,
    /// Of schedules of a zone: the name, and whether the zone data were known to differ.
    zones: HashMap<i64, (String, bool)>,
    differ: HashMap<i64, String>,
}

impl News {
    fn knew(&mut self, row: &PgRow, id: i64, of_a_zone: bool) -> sqlx::Result<()> {
        if of_a_zone {
            let known = row.try_get::<Option<&str>, _>("tz_mismatch")?.is_some();
            self.zones.insert(id, (row.try_get("name")?, known));
        }
        Ok(())
    }

    fn tell(self) {
        for name in self.crash_loops {
            tracing::warn!(schedule = name, "crash loop: its run ends within a minute of its start, again and again");
        }
        for (id, (name, known)) in self.zones {
            match self.differ.get(&id) {
                Some(problem) if !known => tracing::warn!(schedule = name, "{problem}"),
                None if known => tracing::info!(schedule = name, "time zone data agree with the database's again"),
                _ => {}
            }
        }
    }
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

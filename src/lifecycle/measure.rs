//! Measure: read the cluster's values from the database, once for all workers.
//!
//! **In** queues, schedules, workers, a bounded part of the open runs and of watched tables. **Out** the row of `cluster_metrics`, which
//! every worker shows. **Lock** an advisory transaction lock, so that one replica reads while the others wait for
//! what it finds; rows only for that one row. **Crash** before the commit: the values stay as old as they are,
//! and the next worker that asks reads them.

pub mod watches;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection, Row, postgres::PgRow, types::Json};
use tokio::time::Instant;

use self::watches::WatchValues;
use super::fire::read;
use crate::schedule::Spec;

const KEPT: &str = include_str!("../sql/8_metrics_kept.sql");
const KEEP: &str = include_str!("../sql/8_metrics_keep.sql");
const QUEUES: &str = include_str!("../sql/8_metrics_queues.sql");
const SCHEDULES: &str = include_str!("../sql/8_metrics_schedules.sql");
const REST: &str = include_str!("../sql/8_metrics_rest.sql");

/// How old values may become before they are read anew.
pub const EVERY: Duration = Duration::from_secs(15);

/// How many open runs one reading looks at, at most (and as many again to know whether there are more).
pub const RUNS_MAX: i64 = 100_000;

/// How many schedules have values of their own; the worst of up to ten times as many stands for the others.
pub const SCHEDULES_MAX: i64 = 1000;

/// How long a schedule's expected interval is taken to be the same.
const INTERVALS_KEPT: Duration = Duration::from_secs(600);

/// How many of its next fire times say how far apart a schedule's runs are.
const UPCOMING: usize = 10;

/// The values of the whole database. What it holds is bounded: by 1,000 queues, handlers, schedules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// What waits and runs, by queue.
    pub queues: Vec<Queue>,
    /// Due runs that nobody would take, by handler; all handlers that were ever seen are there.
    pub unclaimable: BTreeMap<String, i64>,
    /// The first schedules by number.
    pub schedules: Vec<ScheduleValues>,
    /// The worst of the other schedules.
    pub others: Option<Others>,
    /// The watches that were looked at, by name.
    pub watches: Vec<WatchValues>,
    /// Workers by state.
    pub workers: BTreeMap<String, i64>,
    /// Size and dead rows by table.
    pub tables: BTreeMap<String, (i64, i64)>,
    /// Of the database's schema.
    pub schema_version: i32,
    /// How long reading took, in seconds.
    pub took: f64,
}

/// One queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Whether it is paused.
    pub paused: bool,
    /// Runs that wait, due or not.
    pub pending: i64,
    /// Runs that are executed.
    pub running: i64,
    /// How long the oldest due one waits, in seconds.
    pub oldest_pending: f64,
    /// How long the oldest attempt runs, in seconds.
    pub oldest_running: f64,
}

/// One schedule; times are seconds since 1970. Short keys: there may be a thousand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleValues {
    /// Its name, kind, queue, handler and owner, as labels.
    #[serde(rename = "l")]
    pub labels: [String; 5],
    /// When it fires next.
    #[serde(rename = "n", skip_serializing_if = "Option::is_none")]
    pub next_fire: Option<f64>,
    /// When its newest ended run started.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    pub last_start: Option<f64>,
    /// When one last succeeded, or it was created.
    #[serde(rename = "o")]
    pub last_success: f64,
    /// How long the last ended one took.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    pub last_duration: Option<f64>,
    /// Largest gap between the next fire times.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    pub expected_interval: Option<f64>,
    /// How long its next fire time is over.
    #[serde(rename = "v")]
    pub overdue: f64,
    /// Failures since the last success.
    #[serde(rename = "f")]
    pub failures: i32,
    /// Whether it is paused.
    #[serde(rename = "p")]
    pub paused: bool,
}

/// What is said of all schedules beyond the first thousand: the worst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Others {
    /// The longest that one of them is overdue, in seconds.
    pub overdue: f64,
    /// The most failures in a row.
    pub failures: i32,
}

/// The values, and when they were read.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// By the database's clock.
    pub read_at: DateTime<Utc>,
    /// How old they are.
    pub age: Duration,
    /// What was read.
    pub cluster: Cluster,
}

/// How far apart schedules fire, as worked out within the last ten minutes: walking ten fire times of a thousand
/// cron expressions is most of what a reading costs. By number; an edit changes the version.
#[derive(Debug, Default)]
pub struct Intervals {
    known: HashMap<i64, (i64, Option<f64>)>,
    since: Option<Instant>,
}

impl Intervals {
    fn of(&mut self, row: &PgRow, now: DateTime<Utc>) -> sqlx::Result<Option<f64>> {
        let (id, version): (i64, i64) = (row.try_get("id")?, row.try_get("version")?);
        if let Some((of, interval)) = self.known.get(&id)
            && *of == version
        {
            return Ok(*interval);
        }
        let interval = read(row)?.ok().and_then(|schedule| expected_interval(&schedule, now));
        self.known.insert(id, (version, interval));
        Ok(interval)
    }

    /// The next ten fire times are others after a while, and schedules are gone.
    fn forget_old(&mut self) {
        if self.since.is_none_or(|since| since.elapsed() >= INTERVALS_KEPT) {
            self.known.clear();
            self.since = Some(Instant::now());
        }
    }
}

/// The values that some worker read last; reads them itself if they are too old and nobody else is at it.
///
/// `None`: another worker reads the first ones just now.
pub async fn measure(
    conn: &mut PgConnection,
    intervals: &mut Intervals,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Option<Measured>> {
    let kept = kept(conn, now).await?;
    if kept.as_ref().is_some_and(|kept| kept.age < EVERY) {
        return Ok(kept);
    }
    let mut tx = conn.begin().await?;
    let mine: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended('watchbell:metrics', 0))")
        .fetch_one(&mut *tx)
        .await?;
    if !mine {
        return Ok(kept.filter(|kept| kept.age < Duration::MAX));
    }
    // another may have read them between the two statements
    let mut measured = self::kept(&mut tx, now).await?;
    if measured.as_ref().is_none_or(|kept| kept.age >= EVERY) {
        let cluster = look(&mut tx, intervals, now).await?;
        let read_at = sqlx::query_scalar(KEEP).bind(Json(&cluster)).bind(now).fetch_one(&mut *tx).await?;
        measured = Some(Measured { read_at, age: Duration::ZERO, cluster });
    }
    tx.commit().await?;
    Ok(measured)
}

async fn kept(conn: &mut PgConnection, now: Option<DateTime<Utc>>) -> sqlx::Result<Option<Measured>> {
    let row = sqlx::query(KEPT).bind(now).fetch_optional(conn).await?;
    row.map(|row| {
        let age: f64 = row.try_get(1)?;
        // what another version of the program has written may not be readable: then it counts as too old
        let (age, cluster) = match row.try_get::<Json<Cluster>, _>(2) {
            Ok(Json(cluster)) => (Duration::try_from_secs_f64(age).unwrap_or_default(), cluster),
            Err(_) => (Duration::MAX, Cluster::default()),
        };
        Ok(Measured { read_at: row.try_get(0)?, age, cluster })
    })
    .transpose()
}

/// Reads everything.
async fn look(conn: &mut PgConnection, intervals: &mut Intervals, now: Option<DateTime<Utc>>) -> sqlx::Result<Cluster> {
    let began = Instant::now();
    let (Json(queues), Json(unclaimable)): (Json<Vec<Queue>>, Json<BTreeMap<String, i64>>) =
        sqlx::query_as(QUEUES).bind(RUNS_MAX).bind(now).fetch_one(&mut *conn).await?;
    let (schedules, others) = schedules(&mut *conn, intervals, now).await?;
    let (Json(workers), Json(tables), schema_version): (Json<_>, Json<_>, i32) =
        sqlx::query_as(REST).fetch_one(&mut *conn).await?;
    let watches = watches::watches(conn, now).await?;
    let took = began.elapsed().as_secs_f64();
    Ok(Cluster { queues, unclaimable, schedules, others, watches, workers, tables, schema_version, took })
}

async fn schedules(
    conn: &mut PgConnection,
    intervals: &mut Intervals,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<(Vec<ScheduleValues>, Option<Others>)> {
    let rows = sqlx::query(SCHEDULES).bind(SCHEDULES_MAX).bind(now).fetch_all(conn).await?;
    let (mut all, mut others) = (Vec::with_capacity(rows.len()), None::<Others>);
    intervals.forget_old();
    for (n, row) in rows.iter().enumerate() {
        if n % 100 == 99 {
            tokio::task::yield_now().await; // the application's handlers may share this thread
        }
        let (overdue, failures): (f64, i32) = (row.try_get("overdue")?, row.try_get("consecutive_failures")?);
        if all.len() >= usize::try_from(SCHEDULES_MAX).unwrap_or(usize::MAX) {
            let worst = others.get_or_insert_default();
            worst.overdue = worst.overdue.max(overdue);
            worst.failures = worst.failures.max(failures);
            continue;
        }
        let at: DateTime<Utc> = row.try_get("now")?;
        let labels = ["name", "kind", "queue", "handler", "owner"];
        let labels = labels.map(|column| row.try_get::<Option<String>, _>(column));
        let [name, kind, queue, handler, owner] = labels;
        all.push(ScheduleValues {
            labels: [name?, kind?, queue?, handler?, owner?].map(Option::unwrap_or_default),
            next_fire: row.try_get("next_fire")?,
            last_start: row.try_get("last_start")?,
            last_success: row.try_get("last_success")?,
            last_duration: row.try_get("last_duration")?,
            expected_interval: intervals.of(row, at)?,
            overdue,
            failures,
            paused: row.try_get("paused")?,
        });
    }
    Ok((all, others))
}

/// The largest gap between the next 10 fire times, in seconds; of `fixed_delay` the delay.
fn expected_interval(schedule: &crate::schedule::Schedule, now: DateTime<Utc>) -> Option<f64> {
    if let Spec::FixedDelay(delay) = schedule.spec {
        return Some(delay.as_seconds_f64());
    }
    let slots = schedule.upcoming(now, UPCOMING);
    slots.windows(2).map(|pair| (pair[1] - pair[0]).as_seconds_f64()).reduce(f64::max)
}

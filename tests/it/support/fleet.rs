//! Three worker processes on one database, and what became of every slot of its schedules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, PgPool};

use super::Database;
use super::journal::{Entry, Journal};
use super::process::{Orders, Process};
use super::wait::until_true;

/// For what takes a second on a quiet machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A slot of a schedule, and what became of it.
pub type Slot = (String, DateTime<Utc>, String);

/// Three that have shown their presence.
pub async fn three(database: &Database, journal: &Journal) -> [Process; 3] {
    let fleet = ["a", "b", "c"].map(|name| Process::start(&Orders::new(&database.url, journal, name)));
    until_three(&database.pool).await;
    fleet
}

pub async fn until_three(pool: &PgPool) {
    let there = "select count(*) = 3 from watchbell.workers where state = 'running' and presence";
    until_true(pool, there, SOON).await;
}

pub async fn psql(pool: &PgPool, text: &str) {
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(pool).await.unwrap_or_else(|e| panic!("{text}: {e}"));
}

/// The database's clock, in whole seconds.
pub async fn second(pool: &PgPool) -> DateTime<Utc> {
    sqlx::query_scalar("select date_trunc('second', clock_timestamp())").fetch_one(pool).await.unwrap()
}

/// The slots of some seconds, one a second, after `zero`: what a schedule of each second has.
pub fn seconds_after(zero: DateTime<Utc>, count: i64) -> Vec<DateTime<Utc>> {
    (1..=count).map(|n| zero + TimeDelta::seconds(n)).collect()
}

/// Waits until nothing of any schedule is to come and no run is open.
pub async fn until_all_over(pool: &PgPool) {
    let over = "not exists (select from watchbell.schedules where status <> 'done')
                and not exists (select from watchbell.runs_live)";
    until_true(pool, over, SOON).await;
}

/// Every slot that `fires` accounts for, gaps spelt out, of schedules with one slot a second; in order.
pub async fn accounted(pool: &PgPool) -> Vec<Slot> {
    let query = "select s.name, slot, f.disposition
                 from watchbell.fires f
                 join watchbell.schedules s on s.id = f.schedule_id
                 cross join generate_series(f.fire_at, coalesce(f.until, f.fire_at), interval '1 s') slot
                 order by s.name, slot";
    sqlx::query_as(query).fetch_all(pool).await.unwrap()
}

/// What handlers noted about the fire times of each schedule, in order.
pub fn by_schedule(journal: &Journal) -> BTreeMap<String, Vec<(DateTime<Utc>, Entry)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in journal.entries() {
        if let Some((schedule, slot)) = entry.fire.clone() {
            all.entry(schedule).or_default().push((slot, entry));
        }
    }
    all
}

/// How often each fire time was started, according to the handlers themselves, attempts after the first noted one
/// apart. One that was claimed by a worker that was killed before the handler began is first noted as attempt 2.
pub fn first_starts(journal: &Journal) -> BTreeMap<(String, DateTime<Utc>), u32> {
    let mut all: BTreeMap<_, (i32, u32)> = BTreeMap::new();
    for entry in journal.entries().into_iter().filter(|e| e.event == "start") {
        if let Some(fire) = entry.fire {
            let (attempt, count) = all.entry(fire).or_insert((entry.attempt, 0));
            *count += u32::from(*attempt == entry.attempt);
        }
    }
    all.into_iter().map(|(fire, (_, count))| (fire, count)).collect()
}

/// Asserts that the handlers started exactly these fire times, each once.
pub fn assert_started_once(journal: &Journal, expected: &BTreeSet<(String, DateTime<Utc>)>) {
    let started = first_starts(journal);
    let twice: Vec<_> = started.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "started twice: {twice:?}");
    let started: BTreeSet<_> = started.into_keys().collect();
    let missing: Vec<_> = expected.difference(&started).collect();
    let beside: Vec<_> = started.difference(expected).collect();
    assert!(missing.is_empty() && beside.is_empty(), "not started: {missing:?}; beside the slots: {beside:?}");
}

//! Claim: take due runs for this worker.
//!
//! **In** pending runs that are due, in queues that are not paused, whose handler this worker has and whose
//! target its labels match. **Out** the same runs, running, `claimed_by` this worker, `fence` and `attempt`
//! one higher. **Lock** the rows taken, for one statement; rows that others hold are skipped. **Crash**
//! before the commit: nothing happened. After it, with the reply lost: the runs belong to a worker that does
//! not know them; they come back when it dies, or when it looks for claims that it does not hold (rescue).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::leased::RowClaim;
use crate::run::transition::Standing;

const CLAIM: &str = include_str!("../sql/2_claim.sql");
const CLAIM_KEYED: &str = include_str!("../sql/2_claim_keyed.sql");
const LANES: &str = include_str!("../sql/2_lanes.sql");

/// How far behind the last batch the low-water mark of a lane stays. A transaction that inserted earlier and
/// commits later is seen at once within this; an older row waits for the next sweep, about a second.
const MARK_SLACK: TimeDelta = TimeDelta::seconds(1);

/// A run that this worker holds.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Identifies the run.
    pub id: i64,
    /// The fencing token of this claim.
    pub fence: i64,
    /// The worker that holds it.
    pub claimed_by: i32,
    /// The number of this attempt, from 1.
    pub attempt: i32,
    /// How many attempts it has.
    pub max_attempts: i16,
    /// How often it took its worker down.
    pub crashes: i16,
    /// 0 runs first, 9 last.
    pub priority: i16,
    /// When it was due.
    pub run_at: DateTime<Utc>,
    /// The database's time of the claim.
    pub claimed_at: DateTime<Utc>,
    /// The name of its handler.
    pub handler: String,
    /// Its queue.
    pub queue: String,
    /// JSON text, passed through unread.
    pub payload: String,
    /// How long it may take; `None` = as long as it likes.
    pub timeout: Option<Duration>,
    /// Its retry policy as JSON text; `None` = the default.
    pub retry: Option<String>,
    /// Not to be started after this.
    pub start_deadline: Option<DateTime<Utc>>,
    /// The schedule it belongs to.
    pub schedule_id: Option<i64>,
    /// The schedule's name when the run was made.
    pub schedule_name: Option<String>,
    /// The fire time it stands for.
    pub fire_at: Option<DateTime<Utc>>,
    /// What made it.
    pub trigger: String,
    /// Counts against the limit of this key.
    pub concurrency_key: Option<String>,
    /// In a limited queue: its own key, counted as well.
    pub inner_key: Option<String>,
    /// Its end is told to somebody.
    pub calls_back: bool,
    /// It is no run but a row of a watched table: all of its own that a run does not have.
    pub row: Option<Arc<RowClaim>>,
}

impl Claimed {
    pub(super) fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let timeout_ms: Option<i64> = row.try_get(12)?;
        Ok(Self {
            id: row.try_get(0)?,
            fence: row.try_get(1)?,
            claimed_by: row.try_get(2)?,
            attempt: row.try_get(3)?,
            max_attempts: row.try_get(4)?,
            crashes: row.try_get(5)?,
            priority: row.try_get(6)?,
            run_at: row.try_get(7)?,
            claimed_at: row.try_get(8)?,
            handler: row.try_get(9)?,
            queue: row.try_get(10)?,
            payload: row.try_get(11)?,
            timeout: timeout_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
            retry: row.try_get(13)?,
            start_deadline: row.try_get(14)?,
            schedule_id: row.try_get(15)?,
            schedule_name: row.try_get(16)?,
            fire_at: row.try_get(17)?,
            trigger: row.try_get(18)?,
            concurrency_key: row.try_get(19)?,
            inner_key: row.try_get(20)?,
            calls_back: row.try_get(21)?,
            row: None,
        })
    }

    /// The part that decides what follows an event.
    pub fn standing(&self) -> Standing {
        Standing { id: self.id, attempt: self.attempt, max_attempts: self.max_attempts, crashes: self.crashes }
    }
}

/// Who claims, and what it can run.
#[derive(Debug, Clone)]
pub struct Claimant {
    /// The worker's id.
    pub worker: i32,
    /// Queues to serve; `None` = all.
    pub queues: Option<Vec<String>>,
    /// Handlers it has.
    pub handlers: Vec<String>,
    /// Its labels, `key=value`.
    pub labels: Vec<String>,
}

/// One (queue, priority) and where a claim of it starts and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lane {
    /// Low-water mark of quick claims: entries before it are left to the sweep.
    mark: DateTime<Utc>,
    /// Where the current sweep starts.
    sweep_from: (DateTime<Utc>, i64),
    /// Where the current sweep ends; `None` = at the end of the lane.
    sweep_to: Option<(DateTime<Utc>, i64)>,
}

/// The lanes that this worker knows, in memory only: losing them costs one sweep.
///
/// Without marks every SKIP LOCKED queue slows down while somebody holds an old snapshot, because a claim
/// walks over all the dead entries in front of it (10,000 runs a second fell to 1,400; with marks: flat).
/// With ceilings, runs of a handler nobody here serves cannot make a sweep slow.
#[derive(Debug, Default)]
pub struct Lanes {
    by_priority: BTreeMap<(i16, String), Lane>,
    /// Turns the order of queues, so that equal priorities take turns.
    turn: usize,
    keyed_cursor: String,
}

impl Lanes {
    /// Whether no lane is known.
    pub fn is_empty(&self) -> bool {
        self.by_priority.is_empty()
    }
}

/// Reads which lanes hold runs and sets the bounds of the next sweep. Run it before a sweeping claim.
///
/// True: there are due runs in limited queues too, which have no lanes (`claim_limited`).
pub async fn survey(
    conn: &mut PgConnection,
    who: &Claimant,
    lanes: &mut Lanes,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<bool> {
    let (mut queues, mut priorities, mut from_at, mut from_id) = (vec![], vec![], vec![], vec![]);
    for ((priority, queue), lane) in &lanes.by_priority {
        queues.push(queue.as_str());
        priorities.push(*priority);
        // a sweep that reached its ceiling goes on there; one that reached the end starts over
        let (at, id) = lane.sweep_to.unwrap_or((START, 0));
        from_at.push(at);
        from_id.push(id);
    }
    let rows = sqlx::query(LANES)
        .bind(who.queues.as_deref())
        .bind(queues)
        .bind(priorities)
        .bind(from_at)
        .bind(from_id)
        .bind(now)
        .fetch_all(conn)
        .await?;
    let mut known = std::mem::take(&mut lanes.by_priority);
    let mut limited = false;
    for row in rows {
        if row.try_get(4)? {
            limited = true;
            continue;
        }
        let key: (i16, String) = (row.try_get(1)?, row.try_get(0)?);
        let (at, id): (Option<DateTime<Utc>>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
        let old = known.remove(&key);
        lanes.by_priority.insert(
            key,
            Lane {
                mark: old.map_or(START, |lane| lane.mark),
                sweep_from: old.and_then(|lane| lane.sweep_to).unwrap_or((START, 0)),
                sweep_to: at.zip(id),
            },
        );
    }
    Ok(limited)
}

/// How much of the lanes a claim looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// From the low-water marks on.
    Quick,
    /// From the sweep's cursor to its ceiling: finds late and returned rows.
    Sweep,
}

/// Takes up to `limit` due runs from the known lanes, in order of priority and due time.
pub async fn claim(
    conn: &mut PgConnection,
    who: &Claimant,
    lanes: &mut Lanes,
    reach: Reach,
    limit: i64,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<Claimed>> {
    if lanes.is_empty() {
        return Ok(vec![]);
    }
    let (mut queues, mut priorities) = (vec![], vec![]);
    let (mut from_at, mut from_id, mut to_at, mut to_id) = (vec![], vec![], vec![], vec![]);
    for ((priority, queue), lane) in in_turn(&lanes.by_priority, lanes.turn) {
        let (from, to) = match reach {
            Reach::Quick => ((lane.mark, 0), None),
            Reach::Sweep => (lane.sweep_from, lane.sweep_to),
        };
        let to = to.unwrap_or((FAR, i64::MAX));
        queues.push(queue.as_str());
        priorities.push(*priority);
        from_at.push(from.0);
        from_id.push(from.1);
        to_at.push(to.0);
        to_id.push(to.1);
    }
    let rows = sqlx::query(CLAIM)
        .bind(queues)
        .bind(priorities)
        .bind(from_at)
        .bind(from_id)
        .bind(to_at)
        .bind(to_id)
        .bind(&who.handlers)
        .bind(&who.labels)
        .bind(limit)
        .bind(who.worker)
        .bind(now)
        .fetch_all(conn)
        .await?;
    let mut runs = rows.iter().map(Claimed::from_row).collect::<sqlx::Result<Vec<_>>>()?;
    // UPDATE ... RETURNING is in no order
    runs.sort_unstable_by_key(|run| (run.priority, run.run_at, run.id));
    lanes.turn = lanes.turn.wrapping_add(1);
    if reach == Reach::Quick {
        raise_marks(lanes, &runs);
    }
    Ok(runs)
}

/// Takes up to `limit` due runs that have a concurrency key and room under its limit.
pub async fn claim_keyed(
    conn: &mut PgConnection,
    who: &Claimant,
    lanes: &mut Lanes,
    limit: i64,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<Claimed>> {
    let from_the_start = lanes.keyed_cursor.is_empty();
    let mut runs = claim_keyed_from_cursor(conn, who, lanes, limit, now).await?;
    if runs.is_empty() && !from_the_start && lanes.keyed_cursor.is_empty() {
        // nothing behind the cursor: the keys before it have their turn
        runs = claim_keyed_from_cursor(conn, who, lanes, limit, now).await?;
    }
    Ok(runs)
}

async fn claim_keyed_from_cursor(
    conn: &mut PgConnection,
    who: &Claimant,
    lanes: &mut Lanes,
    limit: i64,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<Claimed>> {
    let rows = sqlx::query(CLAIM_KEYED)
        .bind(&lanes.keyed_cursor)
        .bind(who.queues.as_deref())
        .bind(&who.handlers)
        .bind(&who.labels)
        .bind(limit)
        .bind(who.worker)
        .bind(now)
        .fetch_all(conn)
        .await?;
    let mut runs = vec![];
    lanes.keyed_cursor.clear();
    for row in &rows {
        if let Some(cursor) = row.try_get::<Option<String>, _>(22)? {
            lanes.keyed_cursor = cursor;
        }
        if row.try_get::<Option<i64>, _>(0)?.is_some() {
            runs.push(Claimed::from_row(row)?);
        }
    }
    runs.sort_unstable_by_key(|run| (run.priority, run.run_at, run.id));
    Ok(runs)
}

/// Both ends of a lane, the bounds of `run_at`: the year 1 and the year 9999.
const START: DateTime<Utc> = DateTime::from_timestamp(-62_135_596_800, 0).expect("the year 1 is in range");
const FAR: DateTime<Utc> = DateTime::from_timestamp(253_402_300_799, 0).expect("the year 9999 is in range");

/// Lanes by priority; among equal priorities the queues take turns to be first.
fn in_turn(lanes: &BTreeMap<(i16, String), Lane>, turn: usize) -> impl Iterator<Item = (&(i16, String), &Lane)> {
    let mut all: Vec<_> = lanes.iter().collect();
    for group in all.chunk_by_mut(|a, b| a.0.0 == b.0.0) {
        let by = turn % group.len();
        group.rotate_left(by);
    }
    all.into_iter()
}

/// Raises each lane's mark to just behind the oldest run that a quick claim found there.
fn raise_marks(lanes: &mut Lanes, runs: &[Claimed]) {
    let mut seen: BTreeMap<(i16, &str), DateTime<Utc>> = BTreeMap::new();
    for run in runs {
        seen.entry((run.priority, run.queue.as_str())).or_insert(run.run_at);
    }
    for ((priority, queue), lane) in &mut lanes.by_priority {
        if let Some(at) = seen.get(&(*priority, queue.as_str())) {
            lane.mark = lane.mark.max(*at - MARK_SLACK);
        }
    }
}

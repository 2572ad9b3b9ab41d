//! Finish: record what became of runs, many in one statement.
//!
//! **In** verdicts about runs that a worker holds (or held). **Out** terminal runs in `runs_finished`, others
//! back to `pending`; their schedules' `last_*` and failures; the next fire time of `fixed_delay`; limits
//! counted down; `run_errors`. **Lock** schedules by id, limits by key, then the runs, until the commit; a
//! schedule or limit that someone else holds is skipped and its runs are handed back as `held`, to be sent
//! again (one psql session with an open edit held up 100 runs otherwise; without the order 34 of 42
//! transactions deadlocked). **Crash** before the commit: the runs are still running and come back by
//! rescue. With the reply lost: sending again is harmless, the guard matches nothing any more.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::{claim::Claimed, leased::RowClaim};
use crate::run::{Status, transition::Verdict};

const LOCK_SCHEDULES: &str = include_str!("../sql/4_finish_lock_schedules.sql");
const LOCK_LIMITS: &str = include_str!("../sql/4_finish_lock_limits.sql");
const FINISH: &str = include_str!("../sql/4_finish.sql");
const CALL: &str = include_str!("../sql/4_finish_call.sql");
const PAUSE: &str = include_str!("../sql/4_finish_pause.sql");

/// A verdict about one run, with all that guards it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Identifies the run.
    pub id: i64,
    /// The fencing token of the claim.
    pub fence: i64,
    /// The worker of the claim.
    pub claimed_by: i32,
    /// The schedule to be written with it.
    pub schedule_id: Option<i64>,
    /// The limit to be counted down with it.
    pub concurrency_key: Option<String>,
    /// In a limited queue: the run's own key, counted down as well.
    pub inner_key: Option<String>,
    /// Its end is told to somebody: a second statement in the same transaction.
    pub calls_back: bool,
    /// It is about a row of a watched table: [`leased`](super::leased) records it.
    pub row: Option<Arc<RowClaim>>,
    /// How long it waited in the worker between claim and start.
    pub waited: Duration,
    /// What follows.
    pub verdict: Verdict,
}

impl Finished {
    /// A verdict about a run that was just claimed.
    pub fn of(run: &Claimed, waited: Duration, verdict: Verdict) -> Self {
        Self {
            id: run.id,
            fence: run.fence,
            claimed_by: run.claimed_by,
            schedule_id: run.schedule_id,
            concurrency_key: run.concurrency_key.clone(),
            inner_key: run.inner_key.clone(),
            calls_back: run.calls_back,
            row: run.row.clone(),
            waited,
            verdict,
        }
    }

    /// Whether this end is told to somebody.
    fn calls(&self) -> bool {
        self.calls_back && self.verdict.status.is_terminal()
    }

    /// The limits that it is counted under.
    fn keys(&self) -> impl Iterator<Item = &str> {
        [&self.concurrency_key, &self.inner_key].into_iter().filter_map(|key| key.as_deref())
    }

    /// Whether its schedule's row is written with it: every scheduled run that ends.
    fn schedule_to_write(&self) -> Option<i64> {
        self.schedule_id.filter(|_| self.verdict.status.is_terminal())
    }
}

/// What became of the verdicts.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Written.
    pub accepted: HashSet<i64>,
    /// Refused by their guard: somebody else has, or had, the run.
    pub superseded: Vec<i64>,
    /// Not written yet: their schedule or limit is locked by someone else.
    pub held: Vec<Finished>,
}

/// Records verdicts in a transaction of their own.
pub async fn finish(
    conn: &mut PgConnection,
    batch: Vec<Finished>,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Recorded> {
    let writes_others = |f: &Finished| f.schedule_to_write().is_some() || f.concurrency_key.is_some() || f.calls();
    if !batch.iter().any(writes_others) {
        return record(conn, batch, now).await; // one statement, one round trip
    }
    let mut tx = conn.begin().await?;
    let (free, held) = lock(&mut tx, batch).await?;
    let mut recorded = record(&mut tx, free, now).await?;
    recorded.held = held;
    tx.commit().await?;
    Ok(recorded)
}

/// Records one verdict inside a transaction that is already open. `held` means: try again later.
pub(crate) async fn finish_within(
    conn: &mut PgConnection,
    one: Finished,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Recorded> {
    let (free, held) = lock(conn, vec![one]).await?;
    let mut recorded = record(conn, free, now).await?;
    recorded.held = held;
    Ok(recorded)
}

/// Locks what must be written besides the runs; parts the batch into what can be written now and what not.
async fn lock(conn: &mut PgConnection, batch: Vec<Finished>) -> sqlx::Result<(Vec<Finished>, Vec<Finished>)> {
    let schedules: BTreeSet<i64> = batch.iter().filter_map(Finished::schedule_to_write).collect();
    let keys: BTreeSet<&str> = batch.iter().flat_map(Finished::keys).collect();
    let mut free_schedules = HashSet::new();
    let mut free_keys = HashSet::new();
    if !schedules.is_empty() {
        let ids: Vec<i64> = schedules.iter().copied().collect();
        let locked: Vec<i64> = sqlx::query_scalar(LOCK_SCHEDULES).bind(&ids).fetch_all(&mut *conn).await?;
        free_schedules.extend(locked);
        // a deleted schedule holds nothing up: what is not there needs no lock
        if free_schedules.len() < ids.len() {
            let gone: Vec<i64> = sqlx::query_scalar(
                "select x.id from unnest($1::bigint[]) as x (id) \
                 where not exists (select from watchbell.schedules s where s.id = x.id)",
            )
            .bind(&ids)
            .fetch_all(&mut *conn)
            .await?;
            free_schedules.extend(gone);
        }
    }
    if !keys.is_empty() {
        let wanted: Vec<&str> = keys.iter().copied().collect();
        let locked: Vec<String> = sqlx::query_scalar(LOCK_LIMITS).bind(&wanted).fetch_all(&mut *conn).await?;
        free_keys.extend(locked);
        if free_keys.len() < wanted.len() {
            let gone: Vec<String> = sqlx::query_scalar(
                "select x.key from unnest($1::text[]) as x (key) \
                 where not exists (select from watchbell.limits l where l.key = x.key)",
            )
            .bind(&wanted)
            .fetch_all(&mut *conn)
            .await?;
            free_keys.extend(gone);
        }
    }
    Ok(batch.into_iter().partition(|f| {
        f.schedule_to_write().is_none_or(|id| free_schedules.contains(&id))
            && f.keys().all(|key| free_keys.contains(key))
    }))
}

async fn record(
    conn: &mut PgConnection,
    mut batch: Vec<Finished>,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Recorded> {
    if batch.is_empty() {
        return Ok(Recorded::default());
    }
    batch.sort_by_key(|f| f.id); // rows are locked in the order of the arrays
    let n = batch.len();
    let mut columns = Columns::with_capacity(n);
    let mut failing = BTreeMap::new();
    for f in &batch {
        columns.push(f);
        if let (Status::Failed, Some(id)) = (f.verdict.status, f.schedule_id) {
            failing.insert(id, ());
        }
    }
    let accepted: Vec<i64> = sqlx::query_scalar(FINISH)
        .bind(columns.id)
        .bind(columns.fence)
        .bind(columns.claimed_by)
        .bind(columns.status)
        .bind(columns.delay_ms)
        .bind(columns.unstarted)
        .bind(columns.crashed)
        .bind(columns.kind)
        .bind(columns.message)
        .bind(columns.waited_us)
        .bind(now)
        .fetch_all(&mut *conn)
        .await?;
    if !failing.is_empty() {
        let ids: Vec<i64> = failing.into_keys().collect();
        sqlx::query(PAUSE).bind(ids).bind(now).execute(&mut *conn).await?;
    }
    let accepted: HashSet<i64> = accepted.into_iter().collect();
    let calls: Vec<i64> = batch.iter().filter(|f| f.calls() && accepted.contains(&f.id)).map(|f| f.id).collect();
    if !calls.is_empty() {
        sqlx::query(CALL).bind(calls).bind(now).execute(conn).await?;
    }
    let superseded = batch.iter().map(|f| f.id).filter(|id| !accepted.contains(id)).collect();
    Ok(Recorded { accepted, superseded, held: vec![] })
}

/// The batch, column by column, as the statement takes it.
#[derive(Default)]
struct Columns<'a> {
    id: Vec<i64>,
    fence: Vec<i64>,
    claimed_by: Vec<i32>,
    status: Vec<&'static str>,
    delay_ms: Vec<Option<i64>>,
    unstarted: Vec<bool>,
    crashed: Vec<bool>,
    kind: Vec<Option<&'static str>>,
    message: Vec<Option<&'a str>>,
    waited_us: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn with_capacity(n: usize) -> Self {
        let mut columns = Self::default();
        columns.id.reserve(n);
        columns.fence.reserve(n);
        columns
    }

    fn push(&mut self, f: &'a Finished) {
        let verdict = &f.verdict;
        self.id.push(f.id);
        self.fence.push(f.fence);
        self.claimed_by.push(f.claimed_by);
        self.status.push(verdict.status.as_str());
        self.delay_ms.push(verdict.delay.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)));
        self.unstarted.push(verdict.unstarted);
        self.crashed.push(verdict.crashed);
        self.kind.push(verdict.error.as_ref().map(|e| e.0));
        self.message.push(verdict.error.as_ref().map(|e| e.1.as_str()));
        self.waited_us.push(i64::try_from(f.waited.as_micros()).unwrap_or(i64::MAX));
    }
}

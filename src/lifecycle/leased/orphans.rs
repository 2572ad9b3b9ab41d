//! Claims that nobody works on any more.
//!
//! **In** claims whose claimant is not a live worker, and claims of this worker that it does not hold. **Out** verdicts
//! for `finish`: `WorkerLost` for the ones, which counts the crash and gives a row up at its third; `GivenBack` for
//! the others, which never started, and for what a worker held that was executing something else alone. **Lock** none. **Crash** the next look, of any worker, finds the same claims.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Passage, RowClaim};
use crate::{
    lifecycle::finish::Finished,
    metrics::Meter,
    retry::RetryPolicy,
    run::transition::{Event, decide},
    watch::{Key, Plan},
};

const ORPHANS: &str = include_str!("../../sql/9_claims_orphans.sql");
const STRAYS: &str = include_str!("../../sql/9_claims_strays.sql");
const RELEASE: &str = include_str!("../../sql/9_claims_release.sql");

/// A claim without anybody who works on it.
#[derive(Debug)]
pub struct Orphan {
    /// Its watch.
    pub watch: i64,
    key: Vec<String>,
    step: String,
    id: i64,
    fence: i64,
    claimed_by: i32,
    attempt: i32,
    crashes: i16,
    /// It had not begun: its worker ran something else, alone.
    spared: bool,
}

/// Up to 200 claims whose claimant is not a live worker, from the first on or behind an earlier one.
pub async fn orphans(conn: &mut PgConnection, behind: Option<&Orphan>) -> sqlx::Result<Vec<Orphan>> {
    let query = match behind {
        None => sqlx::query(ORPHANS).bind(i64::MIN).bind("").bind(Vec::<String>::new()),
        Some(last) => sqlx::query(ORPHANS).bind(last.watch).bind(&last.step).bind(&last.key),
    };
    query.fetch_all(conn).await?.iter().map(Orphan::read).collect()
}

/// Up to 200 claims of this worker that are not among those it holds: the claim was committed and its reply lost.
pub async fn strays(conn: &mut PgConnection, worker: i32, held: &[i64]) -> sqlx::Result<Vec<Orphan>> {
    sqlx::query(STRAYS).bind(worker).bind(held).fetch_all(conn).await?.iter().map(Orphan::read).collect()
}

impl Orphan {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            watch: row.try_get(0)?,
            key: row.try_get(1)?,
            step: row.try_get(2)?,
            id: row.try_get(3)?,
            fence: row.try_get(4)?,
            claimed_by: row.try_get(5)?,
            attempt: row.try_get(6)?,
            crashes: row.try_get(7)?,
            spared: row.try_get(8)?,
        })
    }

    /// Number and fence: the same claim, if both are.
    pub fn mark(&self) -> (i64, i64) {
        (self.id, self.fence)
    }

    /// The verdict that this event leads to; `None` where the plan has no such step, or another key.
    pub fn verdict(&self, plans: &HashMap<i64, Arc<Plan>>, event: Event) -> Option<Finished> {
        let plan = plans.get(&self.watch)?;
        let step = plan.steps.iter().position(|planned| planned.step.from == self.step)?;
        if plan.steps[step].statements.width() != self.key.len() {
            return None;
        }
        let event = if self.spared { Event::GivenBack } else { event };
        let retry = match event {
            Event::WorkerLost => plan.steps[step].step.retry.clone(),
            _ => RetryPolicy::default(),
        };
        let standing = (self.attempt, self.crashes);
        let key = Key(self.key.clone());
        let row = RowClaim::new(plan, step, key, String::new(), Passage::new(self.id, None), standing);
        Some(Finished {
            id: -self.id,
            fence: self.fence,
            claimed_by: self.claimed_by,
            schedule_id: None,
            concurrency_key: None,
            inner_key: None,
            calls_back: false,
            verdict: decide(row.standing, event, &retry),
            row: Some(Arc::new(row)),
            waited: Duration::ZERO,
            meter: Meter::default(),
        })
    }

    /// Frees it without a look at its row, which its watch does not know any more.
    pub async fn release(&self, conn: &mut PgConnection, why: &str) -> sqlx::Result<()> {
        release(conn, (self.watch, &self.key), (self.id, self.fence, self.claimed_by), why).await
    }
}

/// Frees a claim, by its watch and key, guarded by its number, fence and worker; its row stays where it is.
pub async fn release(
    conn: &mut PgConnection,
    (watch, key): (i64, &[String]),
    (id, fence, worker): (i64, i64, i32),
    why: &str,
) -> sqlx::Result<()> {
    let release = sqlx::query(RELEASE).bind(watch).bind(key).bind(id).bind(fence).bind(worker).bind(why);
    release.execute(conn).await.map(drop)
}

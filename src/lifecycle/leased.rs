//! Leased: rows of people's own tables whose handlers work outside a transaction.
//!
//! **In** rows at a step's first state, by the step's order, that nobody has and whose next attempt is due. **Out** a
//! claim for each in `watch_claims`, and the row at `via` where the step has one; then, by its verdict, the row at
//! `to` or at the error state and its claim gone, or the row back at `from` and its claim waiting. **Lock** the
//! user's row and then its claim, for one statement; rows that others hold are passed over, their verdicts handed back
//! as `held`. **Crash** before a commit: nothing happened. After a claim: it belongs to a worker that is gone, and
//! `orphans` gives it back, the crash counted. With the reply to an end lost: sending it again changes nothing.
//!
//! A row's owner may change or delete it at any time, and wins: a verdict about a row that stands elsewhere ends its
//! claim and leaves the row. What is waiting for its next attempt stands at `from` again, like any row that waits, so
//! that whoever looks at the table sees what is being worked on and what is not; that it was tried is in its claim.
//!
//! An end is guarded by the claim's number, fence and worker. The number is the same at all attempts of one passage
//! through a step and never comes again: a claim is deleted when the row moves on, and its fence is forgotten then.

mod faults;
mod finish;
mod orphans;
mod refused;
mod sweep;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::time::Instant;

pub use self::{
    faults::{find_faults, settle_remains},
    finish::{Became, finish},
    orphans::{Orphan, orphans, release, strays},
    refused::{is_a_rows, single_out},
    sweep::{Swept, forget, sweep},
};
use super::claim::Claimed;
use crate::{
    handler::{Passage, Taken},
    run::transition::Standing,
    watch::{Key, Plan, Planned},
};

/// A row that a worker holds, beside what a run has too.
#[derive(Debug, Clone)]
pub struct RowClaim {
    /// The plan that it was claimed by: an edit meanwhile does not change where it goes.
    pub plan: Arc<Plan>,
    /// Which of the plan's steps.
    pub step: usize,
    /// What its handler sees of it; of a claim that is only to be ended the key alone.
    pub(crate) taken: Arc<Taken>,
    /// Its passage through the step, and what is kept during it.
    pub(crate) passage: Arc<Passage>,
    /// What its next attempt depends on.
    pub standing: Standing,
}

impl PartialEq for RowClaim {
    fn eq(&self, other: &Self) -> bool {
        self.passage.id == other.passage.id
    }
}

impl RowClaim {
    fn new(
        plan: &Arc<Plan>,
        step: usize,
        key: Key,
        row: String,
        passage: Passage,
        (attempt, crashes): (i32, i16),
    ) -> Self {
        let (plan, planned) = (Arc::clone(plan), &plan.steps[step]);
        let standing = Standing { id: -passage.id, attempt, max_attempts: planned.step.max_attempts, crashes };
        let of = Arc::clone(&plan);
        let taken = Taken {
            watch: plan.watch.name.clone(),
            step: planned.step.from.clone(),
            keys: vec![key.0],
            rows: vec![row],
            claimed: Box::new(move |first| of.steps[step].statements.claimed(first)),
        };
        Self { plan, step, taken: Arc::new(taken), passage: Arc::new(passage), standing }
    }

    /// Its step.
    pub fn planned(&self) -> &Planned {
        &self.plan.steps[self.step]
    }

    /// What names the row: its key columns as text.
    pub fn key(&self) -> &[String] {
        &self.taken.keys[0]
    }
}

/// How long looks go on behind one another. Then one begins at the front again, where a row may have come that is
/// first in the order, or whose next attempt is due.
const PASS_MAX: Duration = Duration::from_secs(1);

/// Where a worker goes on in a step's order, so that it does not read the same rows that wait for their next attempt
/// at each look. In memory only: without it, it begins at the front.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    place: Option<Vec<String>>,
    began: Option<Instant>,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claims {
    /// Rows that this worker has now, in order.
    pub rows: Vec<Claimed>,
    /// There may be more behind these.
    pub more: bool,
}

/// Claims up to `limit` rows of a step: from the cursor on, and from the front if nothing is there.
pub async fn claim(
    conn: &mut PgConnection,
    plan: &Arc<Plan>,
    step: usize,
    worker: i32,
    limit: i64,
    cursor: &mut Cursor,
) -> sqlx::Result<Claims> {
    let place = cursor.place.take().filter(|_| cursor.began.is_some_and(|began| began.elapsed() < PASS_MAX));
    if place.is_some() {
        let claims = look(conn, plan, step, worker, limit, place, cursor).await?;
        if claims.more || !claims.rows.is_empty() {
            return Ok(Claims { more: true, ..claims }); // it has not seen the front
        }
    }
    cursor.began = Some(Instant::now());
    look(conn, plan, step, worker, limit, None, cursor).await
}

/// One look, behind a place or from the front. `more`: it brought as many rows as it was to.
async fn look(
    conn: &mut PgConnection,
    plan: &Arc<Plan>,
    step: usize,
    worker: i32,
    limit: i64,
    behind: Option<Vec<String>>,
    cursor: &mut Cursor,
) -> sqlx::Result<Claims> {
    let planned = &plan.steps[step];
    let text = planned.leased.claim(behind.is_some());
    let query = sqlx::query(AssertSqlSafe(text));
    let query = behind.iter().flatten().fold(query, |query, part| query.bind(part));
    let answers = query.bind(worker).bind(limit).fetch_all(conn).await?;

    let (mut shown, mut order, mut claims) = (HashMap::new(), vec![], HashMap::new());
    let mut last = None;
    for answer in &answers {
        let key = Key(answer.try_get(0)?);
        match answer.try_get::<Option<i64>, _>(3)? {
            None => {
                last = answer.try_get::<Option<Vec<String>>, _>(1)?;
                shown.insert(key.clone(), answer.try_get::<String, _>(2)?);
                order.push(key);
            }
            Some(id) => drop(claims.insert(key, (id, answer))),
        }
    }
    let taken = order.len();
    let is_full = i64::try_from(taken).is_ok_and(|taken| taken >= limit);
    if is_full && planned.statements.goes_on() {
        cursor.place = last;
    }
    let mut rows = vec![];
    for key in order {
        let (Some((id, answer)), Some(row)) = (claims.get(&key), shown.remove(&key)) else { continue };
        let (fence, attempt): (i64, i32) = (answer.try_get(4)?, answer.try_get(5)?);
        let crashes: i16 = answer.try_get(6)?;
        let passage = Passage::new(*id, answer.try_get(7)?);
        let row = RowClaim::new(plan, step, key, row, passage, (attempt, crashes));
        rows.push(claimed(row, worker, fence, answer.try_get(8)?));
    }
    // full and nothing claimed: others were faster, or the watch was edited since it was planned
    Ok(Claims { more: is_full && !rows.is_empty(), rows })
}

/// A claimed row in the form in which a worker holds what it has in hand. Its number is that of the passage, negative:
/// no run has it.
fn claimed(row: RowClaim, worker: i32, fence: i64, at: DateTime<Utc>) -> Claimed {
    let step = &row.planned().step;
    Claimed {
        id: -row.passage.id,
        fence,
        claimed_by: worker,
        attempt: row.standing.attempt,
        max_attempts: row.standing.max_attempts,
        crashes: row.standing.crashes,
        priority: 0,
        run_at: at,
        claimed_at: at,
        handler: step.handler.clone(),
        queue: String::new(),
        payload: step.payload.clone(),
        timeout: step.timeout,
        retry: None, // the step's, parsed
        start_deadline: None,
        schedule_id: None,
        schedule_name: None,
        fire_at: None,
        trigger: "watch".to_owned(),
        concurrency_key: None,
        inner_key: None,
        calls_back: false,
        row: Some(Arc::new(row)),
    }
}

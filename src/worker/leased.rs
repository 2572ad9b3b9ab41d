//! Watched rows in leased mode: taken in hand like runs, in the same slots, under the same lease.

use std::sync::Arc;

use sqlx::{Connection, PgConnection};

use super::{
    shared::{Phase, Shared},
    task,
};
use crate::{
    lifecycle::leased::{Claims, Cursor, claim},
    watch::Plan,
};

/// Two workers that count what is running must not count at once.
const LIMIT: &str = "select pg_try_advisory_xact_lock(hashtextextended('watchbell:watch:' || $1 || ':' || $2, 0))";
const RUNNING: &str = "select count(*) from watchbell.watch_claims c \
     where c.watch_id = $1 and c.step = $2 and c.claimed_by is not null";

/// What a look at a step brought.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Brought {
    /// Rows taken in hand.
    pub(super) rows: usize,
    /// Look again at once: there may be more, and there is room.
    pub(super) again: bool,
    /// It was one: there was room for a row.
    pub(super) looked: bool,
    /// It was none, since another worker is claiming rows of this step.
    pub(super) crowded: bool,
}

/// Claims rows of a step, as many as there is room for and at most `most`, and starts their tasks.
pub(super) async fn take(
    shared: &Arc<Shared>,
    conn: &mut PgConnection,
    plan: &Arc<Plan>,
    step: usize,
    cursor: &mut Cursor,
    most: i64,
) -> sqlx::Result<Brought> {
    let _claiming = shared.claiming_rows.lock().await;
    if shared.phase() > Phase::Running || !shared.may_claim() {
        return Ok(Brought::default());
    }
    let asked = &plan.steps[step].step;
    let room = shared.rooms.get(&asked.handler).map_or(usize::MAX, |room| room.free()).min(shared.room_for_rows());
    let limit = i64::try_from(room).unwrap_or(i64::MAX).min(asked.batch).min(most);
    if limit < 1 {
        return Ok(Brought::default());
    }
    let worker = shared.worker();
    let claims = match asked.max_running {
        None => claim(conn, plan, step, worker, limit, cursor).await?,
        Some(max) => match claim_within(conn, plan, step, worker, (limit, max), cursor).await? {
            Some(claims) => claims,
            None => return Ok(Brought { crowded: true, ..Brought::default() }),
        },
    };
    let rows = claims.rows.len();
    for row in claims.rows {
        task::start(shared, row);
    }
    Ok(Brought { rows, again: claims.more && shared.room_for_rows() > 0, looked: true, crowded: false })
}

/// The same where only so many rows of the step may be in work, over all workers. `None`: it is another worker's turn,
/// which may be frozen in the middle of it, until the server ends its session.
async fn claim_within(
    conn: &mut PgConnection,
    plan: &Arc<Plan>,
    step: usize,
    worker: i32,
    (limit, max): (i64, i64),
    cursor: &mut Cursor,
) -> sqlx::Result<Option<Claims>> {
    let (watch, from) = (plan.watch.id, &plan.steps[step].step.from);
    let mut tx = conn.begin().await?;
    let mine: bool = sqlx::query_scalar(LIMIT).bind(watch.to_string()).bind(from).fetch_one(&mut *tx).await?;
    if !mine {
        tx.rollback().await?;
        return Ok(None);
    }
    let running: i64 = sqlx::query_scalar(RUNNING).bind(watch).bind(from).fetch_one(&mut *tx).await?;
    let limit = limit.min(max - running);
    let claims = if limit < 1 { Claims::default() } else { claim(&mut tx, plan, step, worker, limit, cursor).await? };
    tx.commit().await?;
    Ok(Some(claims))
}

//! Claim of runs in limited queues: at most so many at once, in strict order, or so many starts per period.
//!
//! **In** due pending runs of queues with a limit. **Out** the same runs, running, counted in `limits` under the
//! key `queue:<name>`. **Lock** the queue's row in `limits`, then the runs taken, then the limits of their own
//! keys; whatever somebody else holds is skipped. A queue's own row, which people edit, is only read.
//! **Crash** before the commit: nothing happened; after it as in `claim`.
//!
//! Whoever inserts need not know of limits: a run comes without the queue's key and is *adopted* here, and one
//! that runs already is counted. The claim of the lanes refuses limited queues once a lane. One that began before
//! the limit was committed may still take a run, but only a run that was committed before as well, and so is
//! visible here: it is adopted first (then the other claim passes over it) or is seen running (then it is
//! counted). No run is started under a new limit before all of these are accounted for (`epoch`).

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::claim::{Claimant, Claimed};

const LIMITED: &str = include_str!("../sql/2_limited.sql");
const KEY: &str = include_str!("../sql/2_limited_key.sql");
const LOCK: &str = include_str!("../sql/2_limited_lock.sql");
const ADOPT: &str = include_str!("../sql/2_limited_adopt.sql");
const CLAIM: &str = include_str!("../sql/2_limited_claim.sql");

/// Takes up to `limit` due runs of limited queues. The queues take turns to be first.
pub async fn claim_limited(
    conn: &mut PgConnection,
    who: &Claimant,
    limit: i64,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<Claimed>> {
    let mut queues: Vec<(String, bool, bool)> =
        sqlx::query_as(LIMITED).bind(who.queues.as_deref()).bind(now).fetch_all(&mut *conn).await?;
    fastrand::shuffle(&mut queues);
    let mut runs = vec![];
    for (queue, known, new) in queues {
        let room = limit - runs.len() as i64;
        if room <= 0 {
            break;
        }
        if !known {
            sqlx::query(KEY).bind(&queue).execute(&mut *conn).await?;
        }
        runs.extend(claim_of(conn, who, &queue, new, room, now).await?);
    }
    Ok(runs)
}

/// `new`: some of its runs may not have its key yet. Without them the counters are complete (`epoch`).
async fn claim_of(
    conn: &mut PgConnection,
    who: &Claimant,
    queue: &str,
    new: bool,
    limit: i64,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<Claimed>> {
    let mut tx = conn.begin().await?;
    let locked: Option<String> = sqlx::query_scalar(LOCK).bind(queue).fetch_optional(&mut *tx).await?;
    if locked.is_none() {
        return Ok(vec![]); // another worker is at it
    }
    if new {
        sqlx::query(ADOPT).bind(queue).bind(now).execute(&mut *tx).await?;
    }
    let rows = sqlx::query(CLAIM)
        .bind(queue)
        .bind(&who.handlers)
        .bind(who.all_labels())
        .bind(limit)
        .bind(who.worker)
        .bind(now)
        .fetch_all(&mut *tx)
        .await?;
    let mut runs = rows.iter().map(Claimed::from_row).collect::<sqlx::Result<Vec<_>>>()?;
    tx.commit().await?;
    runs.sort_unstable_by_key(|run| (run.priority, run.run_at, run.id));
    Ok(runs)
}

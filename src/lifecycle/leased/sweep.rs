//! Claims that wait for rows which will not come.
//!
//! **In** claims without a claimant whose row is gone or stands elsewhere, since its owner moved it; claims of watches
//! that are gone; counts of workers that are. **Out** the claims deleted, the counts added to one row. **Lock** an
//! advisory transaction lock, so that one worker does it; the claims, for one statement. **Crash** the next minute's
//! pass goes over them again.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::watch::Plan;

const FORGET: &str = include_str!("../../sql/9_claims_forget.sql");

/// Claims looked at in one statement, and statements in one pass over a step.
const BATCH: i64 = 1000;
const BATCHES_MAX: usize = 100;

/// What a pass did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Claims looked at.
    pub looked_at: i64,
    /// Of these, deleted.
    pub deleted: i64,
}

/// Clears away what is left of watches and workers that are gone. False: another worker is at it.
pub async fn forget(conn: &mut PgConnection) -> sqlx::Result<bool> {
    let mut tx = conn.begin().await?;
    let mine = sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended('watchbell:claims', 0))");
    let mine: bool = mine.fetch_one(&mut *tx).await?;
    if mine {
        sqlx::query(FORGET).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(mine)
}

/// Deletes the claims of a watch that wait for rows which are gone or stand elsewhere.
pub async fn sweep(conn: &mut PgConnection, plan: &Arc<Plan>) -> sqlx::Result<Swept> {
    let mut swept = Swept::default();
    for planned in &plan.steps {
        let text = planned.leased.sweep();
        let mut behind: Vec<String> = vec![];
        for _ in 0..BATCHES_MAX {
            let query = sqlx::query_as(AssertSqlSafe(text.clone())).bind(&behind).bind(BATCH);
            let (looked_at, deleted, last): (i64, i64, Option<Vec<String>>) = query.fetch_one(&mut *conn).await?;
            swept.looked_at += looked_at;
            swept.deleted += deleted;
            match last {
                Some(last) if looked_at == BATCH => behind = last,
                _ => break,
            }
        }
    }
    Ok(swept)
}

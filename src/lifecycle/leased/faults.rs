//! What is wrong with the rows of a watch, for people who may not read its table.
//!
//! **In** rows that stand at `via` without a claim; filters that fail; what deleted watches left. **Out** `watch_faults`,
//! which `attention` reads; rows of deleted watches whose workers died back at `from`.
//! **Lock** none beside the rows it writes: workers take turns by the row of `watch_looks`. **Crash** the turn is over,
//! and the next minute's look finds the same.

use sqlx::{Connection, PgConnection};

const TURN: &str = include_str!("../../sql/9_faults_turn.sql");
const LOOK: &str = include_str!("../../sql/9_faults_look.sql");
const REMAINS: &str = include_str!("../../sql/9_faults_remains.sql");

/// The look reads rows for which there may be no index: the server ends it then, and nothing is known.
const BOUNDS: &str = "select set_config('statement_timeout', '1s', true), set_config('lock_timeout', '50ms', true)";

/// Looks at the rows of a watch for what a person must see to; answers how much it is.
///
/// A second at most. `None`: a worker did so within the last minute, or the watch is gone.
pub async fn find_faults(conn: &mut PgConnection, watch: i64) -> sqlx::Result<Option<i64>> {
    let mine: Option<i64> = sqlx::query_scalar(TURN).bind(watch).fetch_optional(&mut *conn).await?;
    if mine.is_none() {
        return Ok(None);
    }
    let mut tx = conn.begin().await?;
    sqlx::query(BOUNDS).execute(&mut *tx).await?;
    let found = sqlx::query_scalar(LOOK).bind(watch).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(Some(found))
}

/// Puts rows of deleted watches back whose workers died; answers how many. With `looks` also counts what else they left.
///
/// A second at most; what was not reached then comes next time.
pub async fn settle_remains(conn: &mut PgConnection, looks: bool) -> sqlx::Result<i64> {
    let mut tx = conn.begin().await?;
    sqlx::query(BOUNDS).execute(&mut *tx).await?;
    let back = sqlx::query_scalar(REMAINS).bind(looks).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(back)
}

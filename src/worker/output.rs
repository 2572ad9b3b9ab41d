//! The output writer: what runs print goes to `run_output`, apart from everything that decides a run.
//!
//! **In** what waits in the [`Outlet`]. **Out** rows in `run_output`. **Lock** none. **Crash** what was not
//! written is lost, at most a second's.
//!
//! While the database is away the same batch is tried again, and the outlet fills up to its bound; what comes
//! then is cut and counted. A batch that the database refuses is lost, and the log says how many bytes.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time;

use crate::{
    error::{is_missing_day, is_transient},
    handler::{Batch, Outlet},
    lifecycle::prune::make_days,
    metrics::{self, list},
};

/// How long one statement may take, a connection of the handlers' pool included.
const STATEMENT_MAX: Duration = Duration::from_secs(15);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Writes until the outlet is closed and every attempt has ended.
pub(super) async fn write(pool: PgPool, outlet: Outlet) {
    while let Some(batch) = outlet.next().await {
        let mut again = false;
        loop {
            let Err(error) = insert(&pool, &batch, again).await else {
                let cut = batch.pieces.iter().map(|piece| piece.cut).sum();
                metrics::count(&list::LOG_BYTES, &[], batch.bytes() as u64);
                metrics::count(&list::LOG_TRUNCATED_BYTES, &[], cut);
                break;
            };
            if !is_transient(&error) {
                tracing::warn!(%error, bytes = batch.bytes(), "run output could not be written and is lost");
                break;
            }
            if !again {
                tracing::warn!(%error, "run output could not be written; trying again");
            }
            again = true;
            time::sleep(PAUSE).await;
        }
        outlet.settle(&batch);
    }
}

/// One row per piece. `again`: the last try may have been committed without our hearing of it.
pub(crate) async fn insert(pool: &PgPool, batch: &Batch, again: bool) -> sqlx::Result<()> {
    let inserted = time::timeout(STATEMENT_MAX, async {
        match insert_once(pool, batch, again).await {
            Err(error) if is_missing_day(&error) => {
                make_days(&mut *pool.acquire().await?).await?;
                insert_once(pool, batch, again).await
            }
            inserted => inserted,
        }
    });
    inserted.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn insert_once(pool: &PgPool, batch: &Batch, again: bool) -> sqlx::Result<()> {
    let pieces = &batch.pieces;
    sqlx::query(include_str!("../sql/7_output.sql"))
        .bind(pieces.iter().map(|piece| piece.run_id).collect::<Vec<_>>())
        .bind(pieces.iter().map(|piece| piece.attempt).collect::<Vec<_>>())
        .bind(pieces.iter().map(|piece| piece.seq).collect::<Vec<_>>())
        .bind(pieces.iter().map(|piece| piece.stream.as_str()).collect::<Vec<_>>())
        .bind(pieces.iter().map(|piece| piece.bytes.as_slice()).collect::<Vec<_>>())
        .bind(pieces.iter().map(|piece| i64::try_from(piece.cut).ok().filter(|cut| *cut > 0)).collect::<Vec<_>>())
        .bind(again)
        .execute(pool)
        .await
        .map(drop)
}

//! The ends of leased rows.
//!
//! **In** verdicts about rows of one step that a worker holds, or held. **Out** rows at `to` or at the error state and
//! their claims gone; rows back at `from` and their claims waiting; `watch_errors`, `watch_totals`. **Lock** the rows
//! in the order of their keys, then their claims, for one statement; a row that somebody else has locked is passed
//! over and its verdict `held`. **Crash** before the commit: the claims stand, and come back by `orphans`.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::RowClaim;
use crate::{lifecycle::finish::Finished, watch::Planned};

/// What came of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// The row has moved, or waits for its next attempt.
    Moved,
    /// Its owner had moved or deleted it: only the claim has ended.
    Changed,
    /// Not written yet: somebody else has locked the row.
    Held,
    /// Refused by its guard: the claim is, or was, another's.
    Superseded,
}

/// Records verdicts about rows of one step; answers what came of each, in their order.
pub async fn finish(
    conn: &mut PgConnection,
    step: &Planned,
    batch: &[(&RowClaim, &Finished)],
) -> sqlx::Result<Vec<Became>> {
    let list = |of: &dyn Fn(&Finished) -> Option<String>| batch.iter().map(|(_, f)| of(f)).collect::<Vec<_>>();
    let flags = |of: &dyn Fn(&Finished) -> bool| batch.iter().map(|(_, f)| of(f)).collect::<Vec<_>>();
    let delay = |f: &Finished| f.verdict.delay.map(|delay| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
    let query = sqlx::query(AssertSqlSafe(step.leased.finish()))
        .bind(batch.iter().map(|(row, _)| row.passage.id).collect::<Vec<_>>())
        .bind(batch.iter().map(|(_, f)| f.fence).collect::<Vec<_>>())
        .bind(batch.iter().map(|(_, f)| f.claimed_by).collect::<Vec<_>>())
        .bind(batch.iter().map(|(_, f)| f.verdict.status.as_str()).collect::<Vec<_>>())
        .bind(batch.iter().map(|(_, f)| delay(f)).collect::<Vec<_>>())
        .bind(flags(&|f| f.verdict.unstarted))
        .bind(flags(&|f| f.verdict.crashed))
        .bind(list(&|f| f.verdict.error.as_ref().map(|(kind, _)| (*kind).to_owned())))
        .bind(list(&|f| f.verdict.error.as_ref().map(|(_, message)| message.clone())))
        .bind(batch.iter().map(|(row, _)| row.passage.kept()).collect::<Vec<_>>())
        .bind(batch.iter().map(|(row, f)| printed(row, f)).collect::<Vec<_>>());
    let columns = (0..step.statements.width()).map(|n| batch.iter().map(|(row, _)| row.key()[n].as_str()).collect());
    let query = columns.fold(query, |query, column: Vec<&str>| query.bind(column));
    let mut became = vec![Became::Held; batch.len()];
    for row in query.fetch_all(conn).await? {
        let n = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default();
        let one = match row.try_get(1)? {
            "moved" => Became::Moved,
            "changed" => Became::Changed,
            "superseded" => Became::Superseded,
            _ => Became::Held,
        };
        if let Some(place) = n.checked_sub(1).and_then(|n| became.get_mut(n)) {
            *place = one;
        }
    }
    Ok(became)
}

/// What the handler printed last, of an attempt that failed.
fn printed(row: &RowClaim, finished: &Finished) -> Option<Vec<u8>> {
    finished.verdict.error.as_ref().and_then(|_| row.passage.printed())
}

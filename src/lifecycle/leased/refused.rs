//! Rows that their own table does not let go to `via`, or keeps where they are without a word.
//!
//! **In** rows that stand at a step's beginning, after the table refused a claim of many: one of them is to blame, and
//! the others cannot be claimed with it. **Out** for each that cannot be moved a failed attempt: it waits for its next
//! one, or goes to the error state. **Lock** the rows, to the commit, then their claims. **Crash** nothing was written;
//! the next claim is refused again.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::{
    error::said,
    lifecycle::{
        watch_failed::{self, Failure},
        watch_moved::{move_rows, stays},
    },
    run::transition::Event,
    watch::{Key, Plan},
};

/// Whether an error may be the fault of a row: a value, a constraint, or what a trigger raises. Not the table's own.
pub fn is_a_rows(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["22", "23", "27", "38", "39", "44", "P0"].contains(&code.get(..2).unwrap_or_default()))
}

/// Looks among the first `limit` rows of a step for those that cannot go to `via`, and records an attempt at each.
///
/// # Errors
/// The database's, also where it is no row that is to blame, such as a filter that fails: then nothing is written.
pub async fn single_out(
    conn: &mut PgConnection,
    plan: &Plan,
    step: usize,
    worker: i32,
    limit: i64,
) -> sqlx::Result<Vec<Failure>> {
    let planned = &plan.steps[step];
    let Some(via) = &planned.step.via else { return Ok(vec![]) };
    let mut tx = conn.begin().await?;
    let take = planned.statements.take_keys(&limit, false);
    let rows = sqlx::query(AssertSqlSafe(take)).persistent(false).fetch_all(&mut *tx).await?;
    let mut failures = vec![];
    for row in rows {
        let key = Key(row.try_get(0)?);
        let (attempts, crashes): (Option<i32>, Option<i16>) = (row.try_get(3)?, row.try_get(4)?);
        sqlx::raw_sql("savepoint watchbell").execute(&mut *tx).await?;
        let moved = move_rows(&mut tx, plan, planned, std::slice::from_ref(&key), via).await;
        sqlx::raw_sql("rollback to savepoint watchbell; release savepoint watchbell").execute(&mut *tx).await?;
        let why = match moved {
            Ok(true) => continue,
            Ok(false) => stays(&planned.step.from),
            Err(error) if is_a_rows(&error) => said(&error),
            Err(error) => return Err(error),
        };
        let message = format!("could not be moved to \"{via}\": {why}");
        let event = Event::Failed { kind: "error", message, after: None };
        failures.push(Failure::of(&planned.step, key, attempts.unwrap_or(0), crashes.unwrap_or(0), event));
    }
    if !failures.is_empty() {
        watch_failed::record(&mut tx, plan, planned, worker, &mut failures).await?;
    }
    tx.commit().await?;
    Ok(failures)
}

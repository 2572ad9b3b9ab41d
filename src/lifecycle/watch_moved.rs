//! Moved: rows that a transaction has locked go from where their step begins to another state.
//!
//! **In** rows that were taken, and locked. **Out** the same at the other state, unless their table refuses that, or keeps
//! them where they are without a word, as a trigger can: nobody may take them for moved, or they would be taken again and
//! again. **Lock** the caller's. **Crash** the caller's transaction is rolled back.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::watch::{Key, Plan, Planned};

/// Moves rows. A handler may have moved or deleted some itself: then that is their state. False: some still stand at
/// the step's beginning, and nothing refused that.
pub(crate) async fn move_rows(
    conn: &mut PgConnection,
    plan: &Plan,
    planned: &Planned,
    keys: &[Key],
    to: &str,
) -> sqlx::Result<bool> {
    let statements = &planned.statements;
    let columns = Key::columns(keys, statements.width());
    let statement = statements.move_rows(&plan.table.state(&planned.step.from), &plan.table.state(to));
    let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(statement)).persistent(false);
    let moved = columns.iter().fold(query, |query, column| query.bind(column)).fetch_one(&mut *conn).await?;
    if moved >= keys.len() as i64 {
        return Ok(true);
    }
    let query = sqlx::query(AssertSqlSafe(statements.lock())).persistent(false);
    let standing = columns.iter().fold(query, |query, column| query.bind(column)).fetch_optional(conn).await?;
    Ok(standing.is_none())
}

/// What is said of rows that their table left where they stood.
pub(crate) fn stays(state: &str) -> String {
    format!("its table left it at \"{state}\"")
}

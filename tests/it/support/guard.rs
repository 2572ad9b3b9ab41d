//! Triggers, generated from [`allowed`], that guard every status change in every test's database.
//!
//! They refuse, with SQLSTATE `WB001`: a status change that the table does not allow; a claim's fence that
//! falls, or rises without a claim; a run that is deleted without an end; an id that comes back, or ends
//! twice. They look at whole statements, so that they cost a microsecond a row. A test that breaks a rule on
//! purpose says [`OFF`] first.

use sqlx::{AssertSqlSafe, PgConnection};
use watchbell::{Status, run::transition::allowed};

/// Takes the guard away from one session.
pub const OFF: &str = "set watchbell_guard.off = 'yes'";

/// The SQLSTATE of a refusal.
pub const REFUSED: &str = "WB001";

/// Puts the guard into a database that has watchbell's schema.
pub async fn install(connection: &mut PgConnection) {
    let guard = include_str!("guard.sql").replace("{allowed}", &pairs());
    sqlx::raw_sql(AssertSqlSafe(guard)).execute(connection).await.unwrap();
}

/// The allowed pairs, as rows of VALUES.
fn pairs() -> String {
    let all = Status::ALL.into_iter().flat_map(|from| Status::ALL.into_iter().map(move |to| (from, to)));
    let rows = all.filter(|&(from, to)| allowed(from, to)).map(|(from, to)| format!("('{from}', '{to}')"));
    rows.collect::<Vec<_>>().join(", ")
}

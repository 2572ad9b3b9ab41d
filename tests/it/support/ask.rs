//! Rows as tests write and read them: by plain SQL, as people do.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use watchbell::RunId;
use watchbell::client::{RunRow, run};

use super::wait::until;

/// Inserts one run; `more` are further columns and their values, such as `("max_attempts", "1")`.
pub async fn insert(pool: &PgPool, handler: &str, more: &[(&str, &str)]) -> i64 {
    let columns: String = more.iter().map(|(column, _)| format!(", {column}")).collect();
    let values: String = more.iter().map(|(_, value)| format!(", {value}")).collect();
    let insert = format!("insert into watchbell.runs (handler{columns}) values ('{handler}'{values}) returning id");
    sqlx::query_scalar(AssertSqlSafe(insert)).fetch_one(pool).await.unwrap()
}

pub async fn row(pool: &PgPool, id: i64) -> RunRow {
    run(pool, RunId(id)).await.unwrap()
}

/// Waits until a run has this status.
pub async fn until_status(pool: &PgPool, id: i64, status: &str, limit: Duration) -> RunRow {
    let look = async || run(pool, RunId(id)).await.ok().filter(|row| row.status.as_str() == status);
    until(&format!("run {id} is {status}"), limit, look).await.0
}

/// The first column of the only row.
pub async fn one<T>(pool: &PgPool, query: &str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
}

/// The attempts of one run that failed: number, kind, message.
pub async fn errors(pool: &PgPool, id: i64) -> Vec<(i32, String, String)> {
    let query = "select attempt, kind, message from watchbell.run_errors where run_id = $1 order by fence";
    sqlx::query_as(query).bind(id).fetch_all(pool).await.unwrap()
}

//! Steering a watch: pause, resume, retry what failed, release what is stuck, wake-up, delete. The functions of the schema, called.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use super::answer::answer;
use crate::error::{Error, Result};

/// Stops workers from taking rows of a watch, until a time if given; rows in work go on.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) with the nearest name; [`Error::Invalid`](crate::Error::Invalid) if
/// `until` has passed.
pub async fn pause_watch(
    executor: impl PgExecutor<'_>,
    watch: &str,
    note: Option<&str>,
    until: Option<DateTime<Utc>>,
) -> Result<()> {
    let call = sqlx::query("select watchbell.pause_watch($1, $2, $3)").bind(watch).bind(note).bind(until);
    answer("watch", watch, call.execute(executor).await.map(drop))
}

/// Lets workers take rows of a paused watch again.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) with the nearest name.
pub async fn resume_watch(executor: impl PgExecutor<'_>, watch: &str) -> Result<()> {
    let call = sqlx::query("select watchbell.resume_watch($1)").bind(watch);
    answer("watch", watch, call.execute(executor).await.map(drop))
}

/// Puts failed rows back to the state of the step that failed, at most `max` (1 to 100,000); answers how many.
///
/// Their attempts begin anew. The caller must be allowed to update the table. Rows that somebody has locked stay.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); [`Error::Conflict`](crate::Error::Conflict) if its table is gone.
pub async fn retry_watch(executor: impl PgExecutor<'_>, watch: &str, max: i32) -> Result<i64> {
    let call = sqlx::query_scalar("select watchbell.retry_watch($1, max => $2)").bind(watch).bind(max);
    answer("watch", watch, call.fetch_one(executor).await)
}

/// As [`retry_watch`], for the row with this key: its key columns as text, in order. False if it has not failed.
///
/// # Errors
/// As [`retry_watch`]; [`Error::NotFound`](crate::Error::NotFound) if no row has this key;
/// [`Error::Invalid`](crate::Error::Invalid) for one of another number of columns, or a value that is not of its
/// column's type.
pub async fn retry_watched_row(executor: impl PgExecutor<'_>, watch: &str, key: &[&str]) -> Result<bool> {
    let call = sqlx::query_scalar("select watchbell.retry_watch($1, $2) > 0").bind(watch).bind(key);
    let result = call.fetch_one(executor).await;
    let is_of_row = |error: &sqlx::Error| {
        let answer = error.as_database_error();
        answer
            .is_some_and(|answer| answer.code().as_deref() == Some("P0002") && answer.message().contains("no row of "))
    };
    if result.as_ref().is_err_and(is_of_row) {
        let name = key.join(", ");
        return Err(Error::NotFound { kind: "row", name, hint: format!(" in the table of watch \"{watch}\"") });
    }
    answer("watch", watch, result)
}

/// Puts rows that stand at a `via` state although no worker has them back to the state they were taken from, at most
/// `max` (1 to 100,000); answers how many.
///
/// They are left there when a watch is deleted, or a step edited, and then their worker dies. Rows that a worker has
/// under a lease are never touched, nor are rows that somebody has locked. The caller must be allowed to update the
/// table.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); [`Error::Conflict`](crate::Error::Conflict) if its table is gone.
pub async fn release_rows(executor: impl PgExecutor<'_>, watch: &str, max: i32) -> Result<i64> {
    let call = sqlx::query_scalar("select watchbell.release_rows($1, max => $2)").bind(watch).bind(max);
    answer("watch", watch, call.fetch_one(executor).await)
}

/// As [`release_rows`], for the row with this key: its key columns as text, in order. False if it is not stuck.
///
/// # Errors
/// As [`release_rows`]; [`Error::Invalid`](crate::Error::Invalid) for a key of another number of columns.
pub async fn release_row(executor: impl PgExecutor<'_>, watch: &str, key: &[&str]) -> Result<bool> {
    let call = sqlx::query_scalar("select watchbell.release_rows($1, $2) > 0").bind(watch).bind(key);
    answer("watch", watch, call.fetch_one(executor).await)
}

/// Gives the table a trigger by which sleeping workers learn of new rows at once; false if it has it already.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); [`Error::Denied`](crate::Error::Denied) unless the caller owns the
/// table.
pub async fn wake_watch(executor: impl PgExecutor<'_>, watch: &str) -> Result<bool> {
    let call = sqlx::query_scalar("select watchbell.wake_watch($1)").bind(watch);
    answer("watch", watch, call.fetch_one(executor).await)
}

/// Takes the trigger of [`wake_watch`] from the table; false if it has none.
///
/// # Errors
/// As [`wake_watch`].
pub async fn unwake_watch(executor: impl PgExecutor<'_>, watch: &str) -> Result<bool> {
    let call = sqlx::query_scalar("select watchbell.unwake_watch($1)").bind(watch);
    answer("watch", watch, call.fetch_one(executor).await)
}

/// Deletes a watch, and the trigger of [`wake_watch`] unless another watch of the table is there; the rows of its table
/// stay as they are.
///
/// Who does not own the table deletes the watch alone. A trigger that stays wakes nobody.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) with the nearest name.
pub async fn unwatch(executor: impl PgExecutor<'_>, watch: &str) -> Result<()> {
    let call = sqlx::query("select watchbell.unwatch($1)").bind(watch);
    answer("watch", watch, call.execute(executor).await.map(drop))
}

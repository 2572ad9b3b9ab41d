//! Requests: what people ask of workers, apart from the rows that workers write.
//!
//! **In** open rows of `worker_requests`. **Out** for the asking worker: runs to cancel, or a drain; a pending
//! run is cancelled at once, a backfill is left to the caller, which has the stage for it. **Lock** none held beyond a statement. **Crash** the request stays open.

use sqlx::{PgConnection, Row};

const OPEN: &str = include_str!("../sql/5_requests.sql");
const HANDLED: &str = include_str!("../sql/5_requests_handled.sql");

/// What this worker is asked to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Runs of this worker to be cancelled, each with the reason.
    pub cancel: Vec<(i64, String)>,
    /// Stop claiming, finish, end.
    pub drain: bool,
    /// Backfills that wait to be worked out, by any worker.
    pub backfills: Vec<i64>,
}

/// Reads open requests, does what can be done in the database, and returns what is for this worker.
pub async fn requests(conn: &mut PgConnection, worker: i32) -> sqlx::Result<Asked> {
    let rows = sqlx::query(OPEN).fetch_all(&mut *conn).await?;
    let mut asked = Asked::default();
    let mut handled: Vec<i64> = vec![];
    for row in rows {
        let id: i64 = row.try_get(0)?;
        let request: &str = row.try_get(1)?;
        if request == "drain" {
            if row.try_get::<Option<i32>, _>(2)? == Some(worker) {
                asked.drain = true;
                handled.push(id);
            }
            continue;
        }
        if let Some(backfill) = row.try_get::<Option<i64>, _>(8)? {
            asked.backfills.push(backfill);
            continue;
        }
        let Some(run) = row.try_get::<Option<i64>, _>(3)? else { continue };
        let reason: Option<String> = row.try_get(4)?;
        let by: String = row.try_get(5)?;
        let status: Option<&str> = row.try_get(6)?;
        let claimed_by: Option<i32> = row.try_get(7)?;
        match (status, claimed_by) {
            (Some("running"), Some(claimant)) if claimant == worker => {
                // the words of watchbell.cancel for a run that waits
                let why = reason.filter(|reason| !reason.is_empty()).map(|reason| format!(": {reason}"));
                asked.cancel.push((run, format!("cancelled by {by}{}", why.unwrap_or_default())));
                handled.push(id);
            }
            (Some("running"), _) => {} // its own worker will see it
            (Some(_), _) => {
                let cancel = sqlx::query_scalar("select watchbell.cancel($1, $2)").bind(run).bind(&reason);
                let answer: Option<String> = cancel.fetch_one(&mut *conn).await?;
                if answer.as_deref() == Some("cancelled") {
                    let status = "cancelled";
                    tracing::info!(target: "watchbell::run", run, worker, status, error = reason, "run cancelled");
                }
                handled.push(id);
            }
            (None, _) => handled.push(id), // it has ended
        }
    }
    if !handled.is_empty() {
        sqlx::query(HANDLED).bind(handled).execute(conn).await?;
    }
    Ok(asked)
}

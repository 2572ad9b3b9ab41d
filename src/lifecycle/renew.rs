//! Renew: one statement a second keeps the lease of a worker, and with it all its runs.
//!
//! **In** the worker's own row. **Out** `heartbeat_at`, `lease_until`; hints about what is due. **Lock** its
//! own row, which nobody else writes but rescue. **Crash** the lease runs out, or its presence lock is seen
//! to be free, and rescue takes the runs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

const RENEW: &str = include_str!("../sql/3_renew.sql");

/// First key of the advisory lock that shows a worker's presence; the second is the worker's number.
pub const PRESENCE: i32 = 0x7762;

/// What a heartbeat learns besides being alive. Hints: acting on one in vain costs a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// A run may be due.
    pub runs_due: bool,
    /// There are runs with concurrency keys.
    pub keyed: bool,
    /// A schedule is due.
    pub schedules_due: bool,
    /// When the next run or schedule comes due, of those known now.
    pub next_at: Option<DateTime<Utc>>,
    /// Another worker's heartbeat is late.
    pub peer_late: bool,
    /// A worker died in the last five minutes.
    pub recently_dead: bool,
    /// Somebody asked a worker for something.
    pub requests: bool,
    /// A pause has run out.
    pub resumes: bool,
    /// Another mark than before: some watch changed. `None`: there are none.
    pub watches: Option<i64>,
}

/// Renews the lease. `None`: this worker was declared dead (or its row is gone).
pub async fn renew(
    conn: &mut PgConnection,
    worker: i32,
    lease: Duration,
    presence: bool,
    draining: bool,
    queues: Option<&[String]>,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Option<Hints>> {
    let row = sqlx::query(RENEW)
        .bind(worker)
        .bind(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
        .bind(presence)
        .bind(draining)
        .bind(queues)
        .bind(now)
        .fetch_optional(conn)
        .await?;
    row.map(|row| {
        Ok(Hints {
            now: row.try_get(0)?,
            runs_due: row.try_get(1)?,
            keyed: row.try_get(2)?,
            schedules_due: row.try_get(3)?,
            next_at: row.try_get(4)?,
            peer_late: row.try_get(5)?,
            recently_dead: row.try_get(6)?,
            requests: row.try_get(7)?,
            resumes: row.try_get(8)?,
            watches: row.try_get(9)?,
        })
    })
    .transpose()
}

/// Takes the worker's own presence lock, if it is free. It is held as long as this session lives.
pub async fn take_presence(conn: &mut PgConnection, worker: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar("select pg_try_advisory_lock($1, $2)").bind(PRESENCE).bind(worker).fetch_one(conn).await
}

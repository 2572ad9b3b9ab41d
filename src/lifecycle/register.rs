//! Register: a worker appears, and says goodbye.
//!
//! **In** nothing. **Out** a row in `workers`, state `starting`; its handlers and queues known.
//! **Lock** none held. **Crash** the row stays `starting`; its lease runs out and rescue marks it dead.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

const REGISTER: &str = include_str!("../sql/3_register.sql");
const HANDLERS: &str = include_str!("../sql/3_handlers.sql");
const STOP: &str = include_str!("../sql/3_stop.sql");

/// What a worker says of itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// For people; the host's name and the process id unless configured.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// The address from which it reaches the database, if known.
    pub ip: Option<String>,
    /// The process id.
    pub pid: i32,
    /// Handlers it has.
    pub handlers: Vec<String>,
    /// Queues it serves; `None` = all.
    pub queues: Option<Vec<String>>,
    /// Labels, `key=value`, `host` and `ip` among them.
    pub labels: Vec<String>,
    /// How many runs it runs at once.
    pub slots: i32,
    /// How long its lease lasts without renewal.
    pub lease: Duration,
}

/// Makes the worker's row and returns its number.
pub async fn register(conn: &mut PgConnection, who: &Identity, now: Option<DateTime<Utc>>) -> sqlx::Result<i32> {
    sqlx::query_scalar(REGISTER)
        .bind(&who.name)
        .bind(&who.host)
        .bind(&who.ip)
        .bind(who.pid)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(&who.handlers)
        .bind(who.queues.as_deref())
        .bind(&who.labels)
        .bind(who.slots)
        .bind(i64::try_from(who.lease.as_millis()).unwrap_or(i64::MAX))
        .bind(now)
        .fetch_one(conn)
        .await
}

/// Makes handlers known before schedules name them. `names` sorted, so that two programs do not deadlock.
pub async fn make_known(conn: &mut PgConnection, names: &[String]) -> sqlx::Result<()> {
    sqlx::query(HANDLERS).bind(names).execute(conn).await.map(drop)
}

/// The worker's last word: it has stopped in good order.
pub async fn stop(conn: &mut PgConnection, worker: i32) -> sqlx::Result<()> {
    sqlx::query(STOP).bind(worker).execute(conn).await.map(drop)
}

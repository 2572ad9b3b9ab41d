//! Rescue: take back the runs of workers that died.
//!
//! **In** workers whose presence lock is free and whose heartbeat is late, or whose lease ran out; runs
//! whose claimant is not a live worker. **Out** those workers `dead`; a verdict `WorkerLost` for each run,
//! for the finish stage. **Lock** the dead workers' rows for one statement. **Crash** before the verdicts
//! are written: the next pass, of any worker, finds the same runs.
//!
//! Looking only at workers that die now is not enough: a claim in flight can commit after its worker was
//! declared dead, and its runs would stay for ever. So a pass takes all orphans, whoever held them: at once
//! after a death, and every few seconds for five minutes more.
//!
//! A worker that lives can lose a claim too: the claim commits and its connection breaks before the reply.
//! After such a break, and once a minute, it looks for runs that it has claimed and does not hold.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::finish::Finished;
use crate::{
    metrics::Meter,
    retry::RetryPolicy,
    run::transition::{Event, Standing, decide},
};

const DEAD: &str = include_str!("../sql/5_rescue_dead.sql");
const ORPHANS: &str = include_str!("../sql/5_rescue_orphans.sql");
const STRAYS: &str = include_str!("../sql/5_rescue_strays.sql");

/// By what a worker may judge others. After a backend crash or a promotion every presence lock is free at
/// once, so only one whose own session has stood for a while may judge by presence, and only one with an
/// unbroken lease may judge by leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// Own presence session old enough and the last heartbeats on time.
    pub by_presence: bool,
    /// Own heartbeats unbroken for one lease.
    pub by_lease: bool,
}

/// A worker that was declared dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Its number.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its process id there.
    pub pid: i32,
    /// How long it had been silent.
    pub silent: Duration,
}

/// Whether this worker's own presence lock is held. A crash of the server frees every lock at once, and a
/// judge learns of it only at its next heartbeat: until it sees its own lock it may not judge by others'.
pub async fn is_present(conn: &mut PgConnection, worker: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from pg_locks l where l.locktype = 'advisory' and l.classid = 30562 \
         and l.objid = $1::oid and l.objsubid = 2 and l.granted \
         and l.database = (select d.oid from pg_database d where d.datname = current_database()))",
    )
    .bind(worker)
    .fetch_one(conn)
    .await
}

/// Declares dead the workers that this one may judge so.
pub async fn declare_dead(
    conn: &mut PgConnection,
    judge: i32,
    by: Judgement,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<Dead>> {
    if !(by.by_presence || by.by_lease) {
        return Ok(vec![]);
    }
    let rows = sqlx::query(DEAD).bind(judge).bind(by.by_presence).bind(by.by_lease).bind(now).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let silent: i64 = row.try_get(4)?;
            Ok(Dead {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                host: row.try_get(2)?,
                pid: row.try_get(3)?,
                silent: Duration::from_millis(u64::try_from(silent).unwrap_or(0)),
            })
        })
        .collect()
}

/// A run that nobody has in hand, with the verdict about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Orphan {
    /// What is to be recorded.
    pub finished: Finished,
    /// The number of the attempt that was lost.
    pub attempt: i32,
    /// The name of its handler.
    pub handler: String,
    /// Its queue.
    pub queue: String,
    /// The schedule it belongs to.
    pub schedule: Option<String>,
}

/// Up to 1,000 runs whose claimant is not a live worker, and what follows.
pub async fn orphans(conn: &mut PgConnection) -> sqlx::Result<Vec<Orphan>> {
    let rows = sqlx::query(ORPHANS).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let standing = Standing {
                id: row.try_get(0)?,
                attempt: row.try_get(3)?,
                max_attempts: row.try_get(4)?,
                crashes: row.try_get(5)?,
            };
            let cancelled: bool = row.try_get(11)?;
            let retry: Option<String> = row.try_get(6)?;
            let retry = retry.and_then(|text| text.parse::<RetryPolicy>().ok()).unwrap_or_default();
            let event = if cancelled {
                Event::Cancelled { reason: "its worker died before it could stop".into() }
            } else if row.try_get(15)? {
                Event::GivenBack // it had not begun: its worker ran something else, alone
            } else {
                Event::WorkerLost
            };
            let finished = Finished {
                id: standing.id,
                fence: row.try_get(1)?,
                claimed_by: row.try_get(2)?,
                schedule_id: row.try_get(7)?,
                concurrency_key: row.try_get(8)?,
                inner_key: row.try_get(12)?,
                calls_back: row.try_get(13)?,
                row: None,
                waited: Duration::ZERO,
                verdict: decide(standing, event, &retry),
                meter: Meter::default(),
            };
            Ok(Orphan {
                finished,
                attempt: standing.attempt,
                handler: row.try_get(9)?,
                queue: row.try_get(10)?,
                schedule: row.try_get(14)?,
            })
        })
        .collect()
}

/// Up to 1,000 runs that `worker` has claimed and that are not among those it holds: the claim was committed
/// and its reply lost. They never started, so they go back as they were.
pub async fn strays(conn: &mut PgConnection, worker: i32, held: &[i64]) -> sqlx::Result<Vec<Orphan>> {
    let rows = sqlx::query(STRAYS).bind(worker).bind(held).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let standing = Standing {
                id: row.try_get(0)?,
                attempt: row.try_get(2)?,
                max_attempts: row.try_get(3)?,
                crashes: row.try_get(4)?,
            };
            let finished = Finished {
                id: standing.id,
                fence: row.try_get(1)?,
                claimed_by: worker,
                schedule_id: row.try_get(5)?,
                concurrency_key: row.try_get(6)?,
                inner_key: row.try_get(7)?,
                calls_back: false, // it goes back
                row: None,
                waited: Duration::ZERO,
                verdict: decide(standing, Event::GivenBack, &RetryPolicy::default()),
                meter: Meter::default(),
            };
            Ok(Orphan {
                finished,
                attempt: standing.attempt,
                handler: row.try_get(8)?,
                queue: row.try_get(9)?,
                schedule: row.try_get(10)?,
            })
        })
        .collect()
}

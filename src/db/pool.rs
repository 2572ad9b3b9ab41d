//! A pool whose connections come back clean.

use futures_util::FutureExt;
use sqlx::PgPool;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use std::time::Duration;

use super::{DatabaseUrl, Session};
use crate::error::Result;

/// A pool of at most `max` connections, for handlers and applications.
///
/// Connects once at once, so that a wrong address or password is said here and not at the first use.
/// With several hosts, a task looks every 2 s whether its host is the primary still and points new
/// connections at the one that is; it ends when the pool is closed.
///
/// # Errors
/// As [`connect`](super::connect).
pub async fn pool(url: &DatabaseUrl, max: u32) -> Result<PgPool> {
    pool_with(url, &Session::named("watchbell pool"), max).await
}

/// As [`pool`], with the sessions' name and statement timeout given.
///
/// # Errors
/// As [`connect`](super::connect).
pub async fn pool_with(url: &DatabaseUrl, session: &Session, max: u32) -> Result<PgPool> {
    let (_, options) = super::primary(url, session).await?;
    let pinned = session.clone();
    let pool = PgPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(move |connection, _| {
            let session = pinned.clone();
            async move {
                if super::pin(connection, &session).await? {
                    // An I/O error, which `is_transient` counts as worth another try.
                    return Err(sqlx::Error::Io(std::io::Error::other("the server is a standby and refuses writes")));
                }
                Ok(())
            }
            .boxed()
        })
        .after_release(|connection, _| is_outside_transaction(connection).boxed())
        .connect_lazy_with(options);
    if url.hosts().len() > 1 {
        tokio::spawn(follow_primary(pool.clone(), url.clone(), session.clone()));
    }
    Ok(pool)
}

/// Keeps the pool's future connections pointed at whichever host is the primary, until the pool is closed.
///
/// Connections already open are not touched: those to a lost primary fail their next use and are replaced.
async fn follow_primary(pool: PgPool, url: DatabaseUrl, session: Session) {
    let closed = pool.close_event();
    let follow = async {
        loop {
            tokio::time::sleep(FOLLOW_EVERY).await;
            // While a host is down, the pool itself goes on trying it for as long as an acquire may take.
            let is_standby = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&pool);
            if matches!(tokio::time::timeout(FOLLOW_EVERY, is_standby).await, Ok(Ok(false))) {
                continue;
            }
            match super::primary(&url, &session).await {
                Ok((_, options)) => pool.set_connect_options(options),
                Err(error) => tracing::warn!(%error, "no primary found"),
            }
        }
    };
    tokio::select! {
        () = closed => {}
        () = follow => {}
    }
}

/// How often a pool over several hosts looks whether its host still is the primary.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// Whether a connection may go back to the pool; otherwise it is closed, which rolls back.
///
/// A `begin()` that is cancelled after its BEGIN was sent leaves a transaction open that sqlx 0.9 does
/// not know of (50 of 194 cancelled ones, measured): the next user would work inside it and never commit.
/// A plain ROLLBACK would write a warning to the server's log at every release. Outside a transaction
/// now() is the time of the statement itself; in a failed one the query is refused.
async fn is_outside_transaction(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql("select now() = statement_timestamp()").fetch_one(connection).await?;
    row.try_get(0)
}

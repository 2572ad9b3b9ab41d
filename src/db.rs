//! How a database is opened: the program, the client's users and the tests all come through here.
//!
//! A [`DatabaseUrl`] may name several hosts; the first that is not a standby is taken. Every session
//! gets the same settings (see [`Session`]), so that no statement of ours can hang for ever and no
//! default of the server changes what our statements mean.
//!
//! ```no_run
//! use watchbell::db::{self, DatabaseUrl, Session};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // from WATCHBELL_DATABASE_URL, DATABASE_URL or libpq's variables
//! let url = DatabaseUrl::configured(None)?.ok_or("no database is configured")?;
//! let mut connection = db::connect(&url).await?;
//! let rows = sqlx::query("select 1").execute(&mut connection).await.map_err(db::refusal)?;
//!
//! let session = Session { statement_timeout: watchbell::seconds(5), ..Session::named("shop") };
//! let pool = db::pool_with(&url, &session, 20).await?; // for handlers
//! let single = db::connect_as(&url, &session).await?;
//! # let _ = (rows, pool, single);
//! # Ok(())
//! # }
//! ```

mod pool;
mod refusal;
mod url;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::error::{Error, Result};

pub use pool::{pool, pool_with};
pub(crate) use refusal::Named;
pub use refusal::refusal;
pub use url::DatabaseUrl;

/// What a session is called and how long one statement of it may take.
///
/// Always pinned beside these: isolation `read committed`; `client_connection_check_interval` 500 ms
/// where the server's platform has it (a dropped query's row lock delayed others by 5.4 s without it,
/// 0.44 s with it); TCP keepalives that notice a vanished client within 25 s; `jit` off (reading a list
/// over many daily partitions takes less time than compiling the query).
#[derive(Debug, Clone)]
pub struct Session {
    /// Shown in `pg_stat_activity`, for example `watchbell cli`; at most 63 bytes are kept.
    pub application_name: String,
    /// The server ends a statement that takes longer; zero means never.
    pub statement_timeout: Duration,
}

impl Session {
    /// A session by this name, with a statement timeout of 30 s.
    pub fn named(application_name: impl Into<String>) -> Self {
        Self { application_name: application_name.into(), statement_timeout: Duration::from_secs(30) }
    }
}

/// Connects to the first host that is not a standby.
///
/// # Errors
/// One sentence without the password: [`Error::Unreachable`], [`Error::Standby`] or [`Error::Denied`].
pub async fn connect(url: &DatabaseUrl) -> Result<PgConnection> {
    connect_as(url, &Session::named("watchbell")).await
}

/// As [`connect`], with the session's name and statement timeout given.
///
/// # Errors
/// As [`connect`].
pub async fn connect_as(url: &DatabaseUrl, session: &Session) -> Result<PgConnection> {
    let (connection, _) = primary(url, session).await?;
    Ok(connection)
}

/// Tries each host in order; answers the connection and the options that led to it.
async fn primary(url: &DatabaseUrl, session: &Session) -> Result<(PgConnection, PgConnectOptions)> {
    let mut refusals = Vec::new();
    for host in url.hosts() {
        // The driver's own log would print our statements' text; what matters is logged where it happens.
        let options = host.options.clone().application_name(&session.application_name).disable_statement_logging();
        let attempt = tokio::time::timeout(url.connect_timeout(), open(&options, session)).await;
        match attempt {
            Ok(Ok(connection)) => return Ok((connection, options)),
            Ok(Err(Opening::Standby)) => refusals.push(Error::Standby { target: host.shown.clone() }),
            Ok(Err(Opening::Failed(error))) => refusals.push(refusal::of_connecting(&host.shown, &options, error)),
            Err(_) => refusals.push(Error::Unreachable {
                target: host.shown.clone(),
                problem: format!("no answer within {} s", url.connect_timeout().as_secs()),
            }),
        }
    }
    Err(refusal::of_all_hosts(url, refusals))
}

enum Opening {
    Standby,
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Opening {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

async fn open(options: &PgConnectOptions, session: &Session) -> Result<PgConnection, Opening> {
    let mut connection = options.connect().await?;
    if pin(&mut connection, session).await? {
        let _ = connection.close().await;
        return Err(Opening::Standby);
    }
    Ok(connection)
}

/// Pins the session's settings; answers whether the server is a standby. One round trip.
async fn pin(connection: &mut PgConnection, session: &Session) -> Result<bool, sqlx::Error> {
    use sqlx::Row;
    // Where the server's platform cannot watch a socket, only 0 is allowed for the check interval.
    let settings = format!(
        "set default_transaction_isolation = 'read committed'; \
         set statement_timeout = {}; \
         set jit = off; \
         set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3; \
         set tcp_user_timeout = 25000; \
         do $$ begin set client_connection_check_interval = 500; \
            exception when undefined_object or invalid_parameter_value then null; end $$; \
         select pg_is_in_recovery()",
        session.statement_timeout.as_millis().min(i32::MAX as u128)
    );
    let row = sqlx::raw_sql(AssertSqlSafe(settings)).fetch_one(connection).await?;
    row.try_get(0)
}

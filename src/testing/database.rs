//! A database of one test, gone with it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};

use super::at_set_time::with_options;
use crate::db::{self, DatabaseUrl};
use crate::{Error, Result, migrate};

/// Where [`Database::fresh`] looks for a server, in order.
const SERVERS: [&str; 2] = ["WATCHBELL_TEST_DATABASE_URL", "DATABASE_URL"];

/// A database of its own for one test, with watchbell's schema; dropped when this is, panic or not.
///
/// The login must be allowed to create databases. Tests run side by side, each in its own.
///
/// ```no_run
/// use watchbell::testing::Database;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let database = Database::fresh().await?;
/// // tables of your own: sqlx::migrate!().run(&database.pool()).await?;
/// sqlx::query("create table orders (id bigint primary key)").execute(&database.pool()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Database {
    server: PgConnectOptions,
    name: String,
    pool: PgPool,
}

impl Database {
    /// On the server that `WATCHBELL_TEST_DATABASE_URL` names, or else `DATABASE_URL`.
    ///
    /// The database named there is connected to and nothing else: nothing in it is read or changed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if neither is set; otherwise what the server answers.
    pub async fn fresh() -> Result<Self> {
        let url = SERVERS.into_iter().find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()));
        let problem = || format!("none of {} is set: it names the server to make databases on", SERVERS.join(", "));
        Self::on(&url.ok_or_else(|| Error::invalid("test database", problem()))?).await
    }

    /// On the server of this address: `postgres://user:password@host/database`.
    ///
    /// # Errors
    /// As [`Database::fresh`].
    pub async fn on(url: &str) -> Result<Self> {
        Self::create(url, None).await
    }

    /// A copy of this database, which must have no other sessions: your own schema, migrated once, copied for
    /// each test. Brings watchbell's schema up to date if the template's is not.
    ///
    /// # Errors
    /// As [`Database::fresh`].
    pub async fn copy_of(url: &str, template: &str) -> Result<Self> {
        Self::create(url, Some(template)).await
    }

    /// On a private server that is started once for this process and gone with it.
    ///
    /// The options of the first call count. They must name a supervisor, a program that calls
    /// [`supervise`](crate::embedded::supervise) first thing in its `main`; in an integration test that is
    /// your own: `Options::throwaway().supervised_by(env!("CARGO_BIN_EXE_shop"))`.
    ///
    /// # Errors
    /// As [`Server::start`](crate::embedded::Server::start).
    #[cfg(feature = "embedded")]
    pub async fn private(options: crate::embedded::Options) -> Result<Self> {
        static SERVER: tokio::sync::OnceCell<crate::embedded::Server> = tokio::sync::OnceCell::const_new();
        // never dropped: the supervisor sees the end of this process by a closed pipe
        let server = SERVER.get_or_try_init(|| crate::embedded::Server::start(options)).await?;
        Self::on(server.admin_url()).await
    }

    /// At most 8 connections, opened when needed, whose sessions live at the set time, see
    /// [`at_set_time`](super::at_set_time).
    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// Its address, with the password.
    pub fn url(&self) -> String {
        self.pool.connect_options().to_url_lossy().to_string()
    }

    async fn create(url: &str, template: Option<&str>) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // connects as everything else does, so that a refusal is one sentence
        let mut admin = db::connect(&url.parse::<DatabaseUrl>()?).await?;
        let server: PgConnectOptions = url.parse()?;
        // process ids come back; what a killed process left behind must not be in the way
        let suffix = format!("{}_{:08x}", NEXT.fetch_add(1, Ordering::Relaxed), fastrand::u32(..));
        let name = format!("watchbell_test_{}_{suffix}", std::process::id());
        let template = template.map(|template| format!(" template {}", quoted(template))).unwrap_or_default();
        let create = format!("create database {}{template}", quoted(&name));
        sqlx::query(AssertSqlSafe(create)).execute(&mut admin).await?;
        admin.close().await?;
        let options = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(15));
        let pool = with_options(options, server.clone().database(&name));
        let database = Self { server, name, pool };
        migrate::up(&mut *database.pool.acquire().await?).await?;
        Ok(database)
    }
}

impl Drop for Database {
    /// In a thread with a runtime of its own: the test's may be gone, or this one of its threads.
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropped = thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            let dropped = runtime.block_on(drop_database(&server, &name));
            if let Err(error) = dropped {
                tracing::warn!(%error, "test database \"{name}\" could not be dropped");
            }
        });
        let _ = dropped.join();
    }
}

async fn drop_database(server: &PgConnectOptions, name: &str) -> sqlx::Result<()> {
    let mut admin: PgConnection = server.connect().await?;
    sqlx::query(AssertSqlSafe(format!("drop database if exists {} with (force)", quoted(name))))
        .execute(&mut admin)
        .await?;
    admin.close().await
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

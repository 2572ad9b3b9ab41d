//! One database for each test: NOTIFY and advisory locks do not cross databases, so tests run side by side.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};

use super::guard;
use super::shared::{Shared, shared};

/// A database of one test, dropped with it, panic or not.
pub struct Database {
    /// For the login that owns it, over TCP with its password; no superuser on a private server.
    pub url: String,
    /// For whoever may do more: superuser on a private server, else the same login.
    pub admin_url: String,
    /// At most 8 connections of the owner, opened when needed; over the socket on a private server.
    pub pool: PgPool,
    pool_url: String,
    name: String,
    shared: &'static Shared,
}

impl Database {
    /// With watchbell's schema, copied from a template: 15 ms.
    pub async fn fresh() -> Self {
        let shared = shared().await;
        let database = Self::create(shared, shared.template.as_deref()).await;
        if shared.template.is_none() {
            install(&database.url).await;
        }
        database
    }

    /// Without any schema.
    pub async fn empty() -> Self {
        Self::create(shared().await, None).await
    }

    /// A connection of its own, apart from the pool.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.pool_url).await.unwrap()
    }

    /// A connection of whoever may do more.
    pub async fn connect_admin(&self) -> PgConnection {
        PgConnection::connect(&self.admin_url).await.unwrap()
    }

    async fn create(shared: &'static Shared, template: Option<&str>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("watchbell_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        shared.create_database(&name, template).await;
        let url = with_database(&shared.login_url, &name);
        let pool_url = with_database(&shared.pool_url, &name);
        let admin_url = with_database(&shared.admin_url, &name);
        let options = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(15));
        let pool = options.connect_lazy(&pool_url).unwrap();
        Self { url, admin_url, pool, pool_url, name, shared }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.shared.drops.drop_database(&self.name);
    }
}

/// Brings the schema into the database at `url`, and the trigger that guards every status change in it.
pub async fn install(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    watchbell::migrate::up(&mut connection).await.unwrap();
    guard::install(&mut connection).await;
    connection.close().await.unwrap();
}

/// The same address with another database.
pub fn with_database(url: &str, name: &str) -> String {
    let (address, parameters) = url.split_once('?').map_or((url, None), |(address, rest)| (address, Some(rest)));
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..].find('/').map_or(address.len(), |at| host + at);
    let parameters = parameters.map(|rest| format!("?{rest}")).unwrap_or_default();
    format!("{}/{name}{parameters}", &address[..end])
}

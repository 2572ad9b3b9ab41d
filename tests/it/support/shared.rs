//! The one server behind all tests of this process.

use std::process::Child;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;
use watchbell::embedded::Server;

use super::database::{install, with_database};
use super::docker;
use super::drops::Drops;
use super::private::options;

const TEMPLATE: &str = "watchbell_template";

/// Where databases are made. Lives in a static, so nothing of it is dropped at exit: a private server's
/// supervisor, or the child that removes a container, sees the end of this process by a closed pipe.
pub struct Shared {
    /// May create databases.
    pub admin_url: String,
    /// Owns them; over TCP.
    pub login_url: String,
    /// The same in the quickest way.
    pub pool_url: String,
    /// A database to copy; None on a server that outlives the tests, where nothing may stay.
    pub template: Option<String>,
    pub drops: Drops,
    owner: Option<&'static str>,
    _keep: Keep,
}

/// What must live as long as the server should.
enum Keep {
    Nothing,
    Server { _server: Server },
    Container { _remover: Child },
}

/// The server, started by the first test that asks.
pub async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED.get_or_init(start).await
}

async fn start() -> Shared {
    if let Ok(url) = std::env::var("WATCHBELL_TEST_DATABASE_URL") {
        let drops = Drops::awaited(&url);
        return Shared {
            admin_url: url.clone(),
            login_url: url.clone(),
            pool_url: url,
            template: None,
            drops,
            owner: None,
            _keep: Keep::Nothing,
        };
    }
    let only = std::env::var("WATCHBELL_TEST_SERVER").ok();
    let may = |origin: &str| only.as_deref().is_none_or(|only| only == origin);
    let mut tried = Vec::new();
    if may("private") {
        match private(false).await {
            Ok(shared) => return shared.with_template().await,
            Err(problem) => tried.push(problem),
        }
    }
    if may("container") {
        match container().await {
            Ok(shared) => return shared.with_template().await,
            Err(problem) => tried.push(problem),
        }
    }
    if may("download") {
        match private(true).await {
            Ok(shared) => return shared.with_template().await,
            Err(problem) => tried.push(problem),
        }
    }
    panic!("no PostgreSQL to test with:\n  {}\nor set WATCHBELL_TEST_DATABASE_URL", tried.join("\n  "));
}

async fn private(download: bool) -> Result<Shared, String> {
    let mut options = options().setting("max_connections", "400").setting("max_prepared_transactions", "10");
    options.download = download;
    let server = Server::start(options).await.map_err(|e| e.to_string())?;
    let admin_url = server.admin_url().to_owned();
    // Over the socket: the password's 4,096 rounds of hashing take 54 ms a connection in a debug build.
    let pool_url = admin_url.replace("//postgres@", "//watchbell@");
    let login_url = server.url().to_owned();
    Ok(Shared { pool_url, ..Shared::throwaway(admin_url, login_url, Keep::Server { _server: server }) })
}

async fn container() -> Result<Shared, String> {
    docker::engine_answers().await?;
    let container = docker::postgres(&["-c", "max_connections=400", "-c", "fsync=off"]).await?;
    let admin_url = container.url.clone();
    let remover = container.remove_at_exit()?;
    let mut admin = PgConnection::connect(&admin_url).await.map_err(|e| e.to_string())?;
    let role = "create role watchbell login password 'watchbell'";
    sqlx::query(role).execute(&mut admin).await.map_err(|e| e.to_string())?;
    let login_url = admin_url.replace(docker::LOGIN, "watchbell:watchbell");
    Ok(Shared::throwaway(admin_url, login_url, Keep::Container { _remover: remover }))
}

impl Shared {
    /// A server that goes away with this process.
    fn throwaway(admin_url: String, login_url: String, keep: Keep) -> Self {
        let drops = Drops::behind(&admin_url);
        let pool_url = login_url.clone();
        Self { admin_url, login_url, pool_url, template: None, drops, owner: Some("watchbell"), _keep: keep }
    }

    async fn with_template(mut self) -> Self {
        self.create_database(TEMPLATE, None).await;
        install(&with_database(&self.pool_url, TEMPLATE)).await;
        self.template = Some(TEMPLATE.to_owned());
        self
    }

    pub async fn create_database(&self, name: &str, template: Option<&str>) {
        // Without waiting for the disk, copying files takes half the processor time of the default.
        let template = template.map(|template| format!(" template {template} strategy file_copy")).unwrap_or_default();
        let owner = self.owner.map(|owner| format!(" owner {owner}")).unwrap_or_default();
        let create = format!("create database {name}{template}{owner}");
        for attempt in 1.. {
            let mut admin = PgConnection::connect(&self.admin_url).await.unwrap();
            let done = sqlx::query(AssertSqlSafe(create.clone())).execute(&mut admin).await;
            let _ = admin.close().await;
            match done {
                Ok(_) => return,
                // 55006: the session that filled the template has not quite ended.
                Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("55006") && attempt < 50 => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(e) => panic!("{create}: {e}"),
            }
        }
    }
}

//! One worker in this process, from its options to its end.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    process::ExitCode,
    thread,
    time::Duration,
};

use sqlx::PgPool;
use tokio::sync::watch;

use super::{SqlArgs, WorkerArgs};
use crate::cli::demo;
use crate::db::{self, DatabaseUrl, Session};
use crate::error::{Error, Result};
use crate::handler::{Registry, sql};
use crate::worker::Worker;

/// How long handlers and the database may take once the parent is gone.
const PARENTLESS_MAX: Duration = Duration::from_secs(2);

/// How long the end waits for connections; the server gives up what is left by itself.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// Runs what is due until told to stop. The first Ctrl-C or SIGTERM drains, the second stops handlers at once.
///
/// # Errors
/// At the start only: the database cannot be reached, its schema does not fit, no handler is enabled, or a
/// login must not execute statements. Later the worker reconnects for ever.
pub(in crate::cli) async fn work(args: &WorkerArgs, url: &DatabaseUrl) -> Result<ExitCode> {
    let config = args.config()?;
    let names = args.served()?;
    let port = args.listen.port().await?;
    let pool = db::pool_with(url, &Session::named("watchbell worker"), args.pool).await?;
    crate::migrate::check(&mut *pool.acquire().await?).await?;
    let registry = args.registry(&names, &pool).await?;

    let (orders, mut stop) = watch::channel(Order::Work);
    let mut force = stop.clone();
    if args.exit_with_parent {
        end_with_parent(orders.clone());
    }
    let signals = tokio::spawn(obey_signals(orders)?);
    let shutdown = async move { drop(stop.wait_for(|order| *order >= Order::Drain).await) };
    let force = async move { drop(force.wait_for(|order| *order >= Order::Force).await) };
    let mut builder = Worker::builder(pool.clone()).registry(registry).config(config);
    let server = match port {
        Some(port) => {
            builder = port.measured(builder);
            Some(port.open(builder.health())?)
        }
        None => None,
    };
    let result = builder.run_with(shutdown, force).await;
    if let Some(server) = server {
        server.stop().await;
    }
    signals.abort();
    // a handler that was told to stop at once may have left a statement behind, for which its connection waits
    let _ = tokio::time::timeout(CLOSE_MAX, pool.close()).await;
    result.map(|()| ExitCode::SUCCESS)
}

impl WorkerArgs {
    /// The handlers that are enabled and asked for.
    fn served(&self) -> Result<BTreeSet<&str>> {
        let mut enabled = BTreeSet::new();
        if self.sql.enable_sql {
            enabled.insert("sql");
        }
        if self.http.enable_http {
            enabled.insert("http");
        }
        #[cfg(unix)]
        if self.shell.is_enabled() {
            enabled.insert("shell");
        }
        if self.demo_handlers {
            enabled.extend(demo::HANDLERS);
        }
        if enabled.is_empty() {
            let problem = "none is enabled, so this worker could not run anything; \
                           enable the handler sql with --enable-sql (WATCHBELL_ENABLE_SQL=true), \
                           shell with --enable-shell, http with --enable-http";
            return Err(Error::invalid("handlers", problem));
        }
        let Some(asked) = &self.handlers else { return Ok(enabled) };
        if let Some(unknown) = asked.iter().find(|name| !enabled.contains(name.as_str())) {
            let enabled = enabled.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::invalid("--handlers", format!("\"{unknown}\" is not enabled (enabled: {enabled})")));
        }
        enabled.retain(|name| asked.iter().any(|asked| asked == name));
        Ok(enabled)
    }

    async fn registry(&self, names: &BTreeSet<&str>, pool: &PgPool) -> Result<Registry> {
        let mut registry = Registry::new();
        let secrets = self.secrets.declared().await?;
        if names.contains("sql") {
            registry = registry.transactional("sql", self.sql.handler(pool, self.pool).await?);
        }
        if names.contains("http") {
            registry = registry.handler("http", self.http.handler(secrets.clone()));
        }
        #[cfg(unix)]
        if names.contains("shell") {
            registry = registry.handler("shell", self.shell.handler(secrets.clone())?);
        }
        if self.demo_handlers {
            registry = demo::handlers(registry, pool, names);
        }
        Ok(registry)
    }
}

impl SqlArgs {
    /// The handler with its logins, each of which may execute statements and reaches the worker's database.
    async fn handler(&self, pool: &PgPool, connections: u32) -> Result<sql::Sql> {
        let mut handler = sql::Sql::new(pool.clone());
        for login in &self.sql_logins {
            let session = Session::named(format!("watchbell sql {}", login.name));
            handler = handler.login(&login.name, db::pool_with(&login.url, &session, connections).await?);
        }
        sql::check(&handler, self.allow_superuser_sql).await?;
        Ok(handler)
    }
}

/// What the worker is told; each is more urgent than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Work,
    Drain,
    Force,
}

/// The first signal drains, the second forces, a third ends the process on the spot.
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "whoever asks three times wants no order; rescue does the rest")]
fn obey_signals(orders: watch::Sender<Order>) -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|e| Error::io("listening for signals", e));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        for order in [Some(Order::Drain), Some(Order::Force), None] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            match order {
                Some(order) => drop(orders.send(order)),
                None => std::process::exit(130),
            }
        }
    })
}

#[cfg(not(unix))]
fn obey_signals(orders: watch::Sender<Order>) -> Result<impl Future<Output = ()>> {
    Ok(async move {
        for order in [Order::Drain, Order::Force] {
            let _ = tokio::signal::ctrl_c().await;
            drop(orders.send(order));
        }
    })
}

/// Forces the stop at the end of standard input. A thread of its own: neither a blocked runtime nor a
/// database that went away with the parent may keep this process alive.
#[expect(clippy::disallowed_methods, reason = "the database may be gone with the parent, and never come back")]
fn end_with_parent(orders: watch::Sender<Order>) {
    thread::spawn(move || {
        let mut ignored = [0; 256];
        let mut input = io::stdin().lock();
        while !matches!(input.read(&mut ignored), Ok(0) | Err(_)) {}
        let _ = orders.send(Order::Force);
        thread::sleep(PARENTLESS_MAX);
        std::process::exit(1);
    });
}

//! A worker: a process that moves rows along. It holds no state that could not be lost at any moment.
//!
//! ```text
//!            NOTIFY            hints, one statement a second
//!   listener ──────► poller ◄────────────────────────────── control (own thread, own connection)
//!                      │ claim, fire, rescue, prune                 │ lease, presence
//!                      ▼                                            ▼ lost lease: cancel all
//!                    tasks ── one per run, `slots` at once ──► flusher ── finish, many in one statement
//! ```
//!
//! Four connections: control, poller, flusher, listener. Handlers use the pool they were given.

use std::{future::Future, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::time;

use crate::{
    Error, Result,
    handler::{IntoHandler, IntoTransactionalHandler, Registry, StopReason},
    lifecycle::{execute::Executor, prune, register},
    migrate,
};

mod config;
mod control;
mod drain;
mod flusher;
mod identity;
mod listener;
mod output;
mod poller;
mod salvage;
mod session;
mod shared;
mod task;

pub use config::Config;
#[cfg(feature = "testing")]
pub(crate) use output::insert as write_output;
#[doc(hidden)]
pub use session::SETTINGS;
use session::Session;
use shared::{Phase, Shared};

/// How long the last lines of the handlers' logs are waited for.
const LAST_LINES: Duration = Duration::from_secs(3);

/// Runs what is due, together with any number of others on the same database.
///
/// ```no_run
/// use watchbell::{Context, HandlerResult, Worker};
///
/// async fn report(ctx: Context) -> HandlerResult {
///     ctx.log("done");
///     Ok(())
/// }
///
/// # async fn start(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// let shutdown = async { tokio::signal::ctrl_c().await.ok(); };
/// Worker::builder(pool).handler("report", report).run(shutdown).await
/// # }
/// ```
#[derive(Debug)]
pub struct Worker {
    pool: PgPool,
    registry: Registry,
    config: Config,
}

/// Puts a [`Worker`] together.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// let builder = watchbell::Worker::builder(pool).handler("report", || async {}).slots(20).queues(["slow"]);
/// builder.run(std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Builder {
    worker: Worker,
}

impl Worker {
    /// A worker on this database. Handlers use the pool; the engine opens four connections like it.
    pub fn builder(pool: PgPool) -> Builder {
        Builder { worker: Self { pool, registry: Registry::new(), config: Config::default() } }
    }
}

impl Builder {
    /// What a test runs by hand.
    #[cfg(feature = "testing")]
    pub(crate) fn into_parts(self) -> (PgPool, Registry, Config) {
        (self.worker.pool, self.worker.registry, self.worker.config)
    }

    /// Adds a handler: an async function of payload and [`crate::Context`], or a [`crate::Handler`].
    #[must_use]
    pub fn handler<Args>(mut self, name: impl Into<String>, handler: impl IntoHandler<Args>) -> Self {
        self.worker.registry = self.worker.registry.handler(name, handler);
        self
    }

    /// Adds a handler that gets the transaction in which its end is recorded: its writes and the run's end
    /// happen together, exactly once.
    #[must_use]
    pub fn transactional<Args>(
        mut self,
        name: impl Into<String>,
        handler: impl IntoTransactionalHandler<Args>,
    ) -> Self {
        self.worker.registry = self.worker.registry.transactional(name, handler);
        self
    }

    /// Sets all handlers at once, in place of those added before.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.worker.registry = registry;
        self
    }

    /// Sets all options at once.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.worker.config = config;
        self
    }

    /// How many runs at once, 1 to 10,000; 100 by default.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.worker.config.slots = slots;
        self
    }

    /// Which queues to serve; all by default.
    #[must_use]
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.worker.config.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a label for runs with a `target`.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.worker.config.labels.push(format!("{key}={value}"));
        self
    }

    /// How long to wait for runs to end when told to stop; 3 minutes by default.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.worker.config.drain_timeout = timeout;
        self
    }

    /// Works until `shutdown` completes, then drains: stops claiming, waits up to the drain timeout for runs
    /// to end, asks the rest to stop, gives back what has not ended.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad option or handler, [`Error::Schema`] when the database must be migrated,
    /// [`Error::Unreachable`] when it cannot be reached at the start. Later the worker reconnects for ever.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        self.run_with(shutdown, std::future::pending()).await
    }

    /// Like [`Builder::run`]; when `force` completes during the drain, handlers are stopped at once.
    pub async fn run_with(
        self,
        shutdown: impl Future<Output = ()> + Send,
        force: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        self.worker.run(shutdown, force).await
    }
}

impl Worker {
    async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send,
        force: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        self.config.check()?;
        self.registry.check()?;
        if self.registry.is_empty() {
            return Err(Error::invalid("handlers", "none is registered, so this worker could not run anything"));
        }
        let mut first = Session::of(&self.pool, "start");
        let connection = first.connection().await.map_err(|e| unreachable(&self.pool, &e))?;
        migrate::check(connection).await?;
        let ip = identity::address(connection).await?;
        let who = identity::identity(&self.config, self.registry.names(), ip);
        if let Err(error) = prune::make_days(connection).await {
            tracing::warn!(%error, "the days ahead could not be made; trying again within a minute");
        }
        let id = register::register(connection, &who, None).await?;
        first.close().await;
        tracing::info!(worker = id, name = who.name, slots = self.config.slots, handlers = ?who.handlers, "worker started");

        let (results, inbox) = tokio::sync::mpsc::unbounded_channel();
        let (log, lines) = tokio::sync::mpsc::channel(output::LINES_MAX);
        let executor =
            Executor { registry: self.registry, pool: self.pool.clone(), grace: self.config.grace, now: None };
        let shared = Arc::new(Shared::new(self.config, who, id, executor, results, log));

        let control = control::start(Arc::clone(&shared), Session::of(&self.pool, "control"))?;
        let _end = End(Arc::clone(&shared));
        let flusher = tokio::spawn(flusher::flush(Arc::clone(&shared), Session::of(&self.pool, "finish"), inbox));
        tokio::spawn(listener::listen(Arc::clone(&shared), self.pool.clone()));
        let mut writer = tokio::spawn(output::write(self.pool.clone(), lines));
        let poller = tokio::spawn(poller::poll(Arc::clone(&shared), Session::of(&self.pool, "poll")));

        tokio::select! {
            () = shutdown => shared.enter(Phase::Draining),
            () = shared.at_least(Phase::Draining) => {}
        }
        drain::drain(&shared, force).await;
        shared.enter(Phase::Over);
        let _ = poller.await;
        let _ = flusher.await;
        shared.close_log();
        // it ends when the last context is gone; one that a handler gave away may never go
        if time::timeout(LAST_LINES, &mut writer).await.is_err() {
            writer.abort();
        }
        control.stop().await;
        tracing::info!(worker = shared.worker(), "worker stopped");
        Ok(())
    }
}

/// Ends the worker's tasks however its future ends: a `select!` may drop it in the middle.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.stop_runs(&StopReason::Shutdown);
        drain::give_up(&self.0);
        self.0.enter(Phase::Over);
        self.0.close_log();
    }
}

fn unreachable(pool: &PgPool, error: &sqlx::Error) -> Error {
    let options = pool.connect_options();
    Error::Unreachable { target: format!("{}:{}", options.get_host(), options.get_port()), problem: error.to_string() }
}

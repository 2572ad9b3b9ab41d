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
//! Hooks are told by a task of their own, after the flusher. A handler with room for only so many runs is
//! claimed for apart from the others (`share`).
//!
//! Four connections: control, poller, flusher, listener. Handlers use the pool they were given. What is measured
//! stands in [`crate::metrics`]; `health` tells whether all of it goes.

use std::{future::Future, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::{
    sync::mpsc::{Receiver, UnboundedReceiver},
    time,
};

use crate::{
    Error, Result,
    handler::{Outlet, StopReason},
    lifecycle::{execute::Executor, finish::Finished, prune, register},
    migrate,
};

mod alone;
mod builder;
mod claims;
mod config;
mod control;
mod declare;
mod drain;
mod facts;
mod flusher;
mod gauges;
mod handle;
mod health;
mod hooks;
mod identity;
mod journal;
mod leased;
mod listener;
mod observer;
mod output;
#[cfg(feature = "inventory")]
mod plugin;
mod poller;
mod quiet;
mod room;
mod row_event;
mod salvage;
mod sampler;
mod session;
mod settler;
mod share;
mod shared;
mod task;
mod unwritten;
mod watcher;

pub use builder::Builder;
#[cfg(feature = "testing")]
pub(crate) use builder::Parts;
pub use config::Config;
pub use handle::Handle;
pub use health::{Check, Health, Readiness};
pub use hooks::RunEvent;
use hooks::{Hooks, Told};
use observer::Observer;
#[cfg(feature = "testing")]
pub(crate) use output::insert as write_output;
#[cfg(feature = "inventory")]
pub use plugin::Plugin;
pub use row_event::RowEvent;
#[doc(hidden)]
pub use session::SETTINGS;
use session::Session;
use shared::{Phase, Shared};

/// How long the last output of the handlers, and the last hooks, are waited for.
const LAST_WORDS: Duration = Duration::from_secs(3);

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
    shared: Arc<Shared>,
    inbox: UnboundedReceiver<Finished>,
    row_inbox: UnboundedReceiver<Finished>,
    outlet: Outlet,
    hooks: Hooks,
    events: Receiver<Told>,
}

impl Worker {
    /// A worker on this database. Handlers use the pool; the engine opens four connections like it.
    pub fn builder(pool: PgPool) -> Builder {
        Builder::new(pool)
    }
}

impl Worker {
    /// Checks everything, declares the schedules, registers. Nothing runs yet.
    async fn open(builder: Builder) -> Result<Self> {
        let Builder { pool, registry, config, jobs, around, hooks, health } = builder;
        config.check()?;
        registry.check()?;
        if registry.is_empty() {
            return Err(Error::invalid("handlers", "none is registered, so this worker could not run anything"));
        }
        jobs.check(&registry)?;
        let mut first = Session::of(&pool, "start");
        let connection = first.connection().await.map_err(|e| unreachable(&pool, &e))?;
        migrate::check(connection).await?;
        jobs.declare(connection, &registry).await?;
        let ip = identity::address(connection).await?;
        let who = identity::identity(&config, registry.names(), ip);
        if let Err(error) = prune::make_days(connection).await {
            tracing::warn!(%error, "the days ahead could not be made; trying again within a minute");
        }
        let id = register::register(connection, &who, None).await?;
        first.close().await;
        tracing::info!(
            worker = id,
            name = who.name,
            version = env!("CARGO_PKG_VERSION"),
            slots = config.slots,
            handlers = ?who.handlers,
            queues = config.queues.as_ref().map(tracing::field::debug),
            labels = ?who.labels,
            "worker started"
        );

        let (results, inbox) = tokio::sync::mpsc::unbounded_channel();
        let (row_results, row_inbox) = tokio::sync::mpsc::unbounded_channel();
        let outlet = Outlet::new(config.output_limit);
        let (observer, events) = Observer::of(&hooks);
        let executor = Executor { registry, around, pool: pool.clone(), grace: config.grace, now: None };
        let shared = Arc::new(Shared::new(config, who, id, executor, (results, row_results), outlet.clone(), observer));
        gauges::begin(&shared);
        health.watch(&shared);
        Ok(Self { pool, shared, inbox, row_inbox, outlet, hooks, events })
    }

    /// Works until told to stop, then drains.
    async fn work(
        self,
        shutdown: impl Future<Output = ()> + Send,
        force: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        let Self { pool, shared, inbox, row_inbox, outlet, hooks, events } = self;
        let control = control::start(Arc::clone(&shared), Session::of(&pool, "control"))?;
        let _end = End(Arc::clone(&shared));
        let flusher = tokio::spawn(flusher::flush(Arc::clone(&shared), Session::of(&pool, "finish"), inbox));
        let settler =
            tokio::spawn(settler::settle(Arc::clone(&shared), Session::of(&pool, "rows").passing_over(), row_inbox));
        tokio::spawn(claims::tend(Arc::clone(&shared), Session::of(&pool, "claims").passing_over()));
        tokio::spawn(listener::listen(Arc::clone(&shared), pool.clone()));
        if shared.config.cluster_metrics {
            tokio::spawn(sampler::sample(Arc::clone(&shared), Session::of(&pool, "metrics")));
        }
        let mut writer = tokio::spawn(output::write(pool.clone(), outlet.clone()));
        let mut told = tokio::spawn(hooks::tell(hooks, events));
        let mut watcher = tokio::spawn(watcher::watch(Arc::clone(&shared), pool.clone()));
        let poller = tokio::spawn(poller::poll(Arc::clone(&shared), Session::of(&pool, "poll")));

        tokio::select! {
            () = shutdown => shared.enter(Phase::Draining),
            () = shared.at_least(Phase::Draining) => {}
        }
        tokio::pin!(force);
        drain::drain(&shared, &mut force).await;
        tokio::select! {
            _ = &mut watcher => {}
            () = async {
                if !shared.watches.force.is_cancelled() {
                    force.await;
                    shared.watches.force.cancel();
                }
                std::future::pending().await
            } => {}
        }
        shared.enter(Phase::Over);
        let _ = poller.await;
        let _ = flusher.await;
        let _ = settler.await;
        shared.close_outlet();
        // it ends when the last context is gone; one that a handler gave away may never go
        if time::timeout(LAST_WORDS, &mut writer).await.is_err() {
            writer.abort();
            let bytes = outlet.held();
            if bytes > 0 {
                tracing::warn!(bytes, "run output was not written before the end and is lost");
            }
        }
        shared.observer.close();
        if time::timeout(LAST_WORDS, &mut told).await.is_err() {
            told.abort();
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
        self.0.watches.force.cancel();
        self.0.enter(Phase::Over);
        self.0.close_outlet();
        self.0.observer.close();
    }
}

fn unreachable(pool: &PgPool, error: &sqlx::Error) -> Error {
    let options = pool.connect_options();
    Error::Unreachable { target: format!("{}:{}", options.get_host(), options.get_port()), problem: error.to_string() }
}

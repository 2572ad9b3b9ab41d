//! A worker in the background, and the handle to it.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Builder, Health, Readiness, Worker, shared::Shared};
use crate::{Error, Result};

/// A worker at work in a task of its own; made by [`Builder::start`].
///
/// Dropping it asks the worker to shut down and does not wait for it.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::Worker;
///
/// async fn report() {}
///
/// let worker = Worker::builder(pool).handler("report", report).start().await?;
/// println!("worker {}, ready: {}", worker.worker_id(), worker.ready().is_ready());
/// // ... the rest of the program ...
/// worker.shutdown(); // or `force`, which does not wait for the handlers
/// worker.join().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it shuts the worker down"]
pub struct Handle {
    shared: Arc<Shared>,
    shutdown: DropGuard,
    told: CancellationToken,
    force: CancellationToken,
    health: Health,
    task: JoinHandle<Result<()>>,
}

impl Handle {
    pub(super) async fn start(builder: Builder) -> Result<Self> {
        let health = builder.health();
        let worker = Worker::open(builder).await?;
        let shared = Arc::clone(&worker.shared);
        let (told, force) = (CancellationToken::new(), CancellationToken::new());
        let (shutdown, forced) = (told.clone(), force.clone());
        let task = tokio::spawn(worker.work(shutdown.cancelled_owned(), forced.cancelled_owned()));
        Ok(Self { shared, shutdown: told.clone().drop_guard(), told, force, health, task })
    }

    /// Its number now, as in `watchbell.workers`; another one after its lease was lost.
    pub fn worker_id(&self) -> i32 {
        self.shared.worker()
    }

    /// Tells whether it is ready, for the state of a web server; it may outlive the handle.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Whether it has its database, knows the schema, and polls; what does not is named.
    pub fn ready(&self) -> Readiness {
        self.health.ready()
    }

    /// Tells it to drain: it claims no more, waits for its runs up to the drain timeout, and ends.
    pub fn shutdown(&self) {
        self.told.cancel();
    }

    /// Tells it to drain and to stop its handlers at once.
    pub fn force(&self) {
        self.told.cancel();
        self.force.cancel();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for its end, without telling it to: it ends by [`Handle::shutdown`], or when it is asked to
    /// drain in the database. Dropping this future shuts it down, as dropping the handle does.
    ///
    /// # Errors
    /// What [`Builder::run`] answers.
    pub async fn join(self) -> Result<()> {
        let Self { shutdown, task, .. } = self;
        let ended = task.await;
        shutdown.disarm();
        match ended {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(Error::io("the worker's task was stopped", std::io::Error::other(error))),
        }
    }
}

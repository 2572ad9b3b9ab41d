//! Workers in the test's own process, as an application embeds them.

use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchbell::Worker;
use watchbell::worker::{Builder, Config};

/// A worker at work.
pub struct Running {
    shutdown: CancellationToken,
    force: CancellationToken,
    task: JoinHandle<watchbell::Result<()>>,
}

/// Options for tests: judges others soon, grants short graces.
pub fn config(name: &str) -> Config {
    let mut config = Config::default();
    name.clone_into(&mut config.name);
    config.settle = Duration::from_millis(500);
    config.grace = Duration::from_millis(500);
    config.drain_timeout = Duration::from_secs(10);
    config
}

/// A worker with these options, without handlers yet.
pub fn hand(pool: &PgPool, name: &str) -> Builder {
    Worker::builder(pool.clone()).config(config(name))
}

/// The same with the shortest lease there is, 2 s.
pub fn hand_on_short_lease(pool: &PgPool, name: &str) -> Builder {
    let mut config = config(name);
    config.lease = Duration::from_secs(2);
    Worker::builder(pool.clone()).config(config)
}

/// Puts a worker to work. With `WATCHBELL_TEST_LOG=watchbell=debug` all of them say what they do.
pub fn start(worker: Builder) -> Running {
    if let Ok(filter) = std::env::var("WATCHBELL_TEST_LOG") {
        // the first test's stays
        let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
    }
    let (shutdown, force) = (CancellationToken::new(), CancellationToken::new());
    let (told, forced) = (shutdown.clone(), force.clone());
    let work = async move { worker.run_with(told.cancelled_owned(), forced.cancelled_owned()).await };
    Running { shutdown, force, task: tokio::spawn(work) }
}

impl Running {
    /// Tells it to drain.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Tells it to drop what still runs.
    pub fn force(&self) {
        self.force.cancel();
    }

    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for its end, at most 30 s.
    pub async fn ended(self) -> watchbell::Result<()> {
        tokio::time::timeout(Duration::from_secs(30), self.task).await.expect("it ends within 30 s").unwrap()
    }

    /// Drains it and waits for its end.
    pub async fn stop(self) {
        self.shut_down();
        self.ended().await.unwrap();
    }
}

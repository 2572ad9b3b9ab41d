//! Runs that a worker dropped because it heard nothing from the database come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::{Connection, PgPool};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{self, Instant};
use watchbell::client::{self, NewRun};
use watchbell::worker::Config;
use watchbell::{RunId, Worker};

use crate::support::Database;

#[tokio::test]
async fn runs_dropped_after_a_silence_come_back_although_nobody_declared_their_worker_dead() {
    let database = Database::fresh().await;
    let starts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&starts);
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let mut config = Config::default();
    config.lease = Duration::from_secs(2);
    config.grace = Duration::from_millis(100);
    let worker = Worker::builder(database.pool.clone()).config(config).handler("wait", move || {
        let (count, wait) = (Arc::clone(&count), Arc::clone(&wait));
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            wait.acquire().await.unwrap().forget();
        }
    });
    let worker = Running::start(worker);
    let run = NewRun::new("wait").insert(&database.pool).await.unwrap().unwrap();
    until(&database.pool, run, "running").await;

    // its row is locked, so no heartbeat comes through, and it is the only worker
    let mut psql = database.connect().await;
    let mut held = psql.begin().await.unwrap();
    sqlx::query("select from watchbell.workers for update").execute(&mut *held).await.unwrap();
    time::sleep(Duration::from_secs(3)).await; // beyond the lease
    held.rollback().await.unwrap();

    gate.add_permits(1);
    until(&database.pool, run, "normal").await;
    let run = client::run(&database.pool, run).await.unwrap();
    assert_eq!((run.attempt, run.crashes, starts.load(Ordering::SeqCst)), (2, 1, 2));
    worker.stop().await;
}

/// A worker in this process.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<watchbell::Result<()>>,
}

impl Running {
    fn start(worker: watchbell::worker::Builder) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(worker.run(async move { stopped.await.unwrap_or(()) }));
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

async fn until(pool: &PgPool, run: RunId, status: &str) {
    let began = Instant::now();
    loop {
        let now = client::run(pool, run).await.unwrap().status;
        if now.as_str() == status {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "run {run} is {now}, not {status}, after 15 s");
        time::sleep(Duration::from_millis(20)).await;
    }
}

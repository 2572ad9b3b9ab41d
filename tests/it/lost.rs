//! What a worker lost sight of comes back: runs it dropped, and claims whose answer never reached it.

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

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_back_with_its_attempt_unused() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = Running::start(Worker::builder(pool.clone()).handler("nothing", || async {}));
    until_count(pool, "select count(*) from watchbell.workers where state = 'running'", 1).await;

    // what a claim leaves behind when the connection breaks between its commit and its answer
    let lost = NewRun::new("nothing").delay(Duration::from_secs(3600)).insert(pool).await.unwrap().unwrap();
    let claim = "update watchbell.runs_live set status = 'running', run_at = now(), fence = 1, attempt = 1, \
                 started_at = now(), claimed_by = (select id from watchbell.workers) where id = $1";
    sqlx::query(claim).bind(lost.0).execute(pool).await.unwrap();
    let broken = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                  where application_name = 'watchbell poll' and datname = current_database()";
    sqlx::query(broken).execute(pool).await.unwrap();

    let other = NewRun::new("nothing").insert(pool).await.unwrap().unwrap();
    until(pool, other, "normal").await;
    until(pool, lost, "normal").await;
    let run = client::run(pool, lost).await.unwrap();
    assert_eq!((run.fence, run.attempt, run.crashes), (2, 1, 0));
    worker.stop().await;
}

async fn until_count(pool: &PgPool, query: &'static str, count: i64) {
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>(query).fetch_one(pool).await.unwrap() != count {
        assert!(began.elapsed() < Duration::from_secs(15), "not {count} after 15 s: {query}");
        time::sleep(Duration::from_millis(20)).await;
    }
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
        if now.to_string() == status {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "run {run} is {now}, not {status}, after 15 s");
        time::sleep(Duration::from_millis(20)).await;
    }
}

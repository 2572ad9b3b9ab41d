//! Stopping a worker: what runs may end, what does not end comes back, what never started is as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchbell::{Context, HandlerResult, StopReason};

use crate::support::Database;
use crate::support::ask::{errors, insert, one, row, until_status};
use crate::support::crew::{config, hand, start};
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_runs_ends_and_is_recorded_and_nothing_more_is_claimed() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let worker = start(hand(pool, "going").handler("wait", move || {
        let wait = Arc::clone(&wait);
        async move { wait.acquire().await.unwrap().forget() }
    }));
    let first = insert(pool, "wait", &[]).await;
    until_status(pool, first, "running", SOON).await;
    worker.shut_down();
    until_true(pool, "select state = 'draining' from watchbell.workers", SOON).await;
    let late = insert(pool, "wait", &[]).await;
    assert!(!worker.has_ended());
    gate.add_permits(1);
    worker.ended().await.unwrap();
    assert_eq!(row(pool, first).await.status, "normal");
    let late = row(pool, late).await;
    assert_eq!((late.status.as_str(), late.fence), ("pending", 0));
    assert_eq!(one::<String>(pool, "select state from watchbell.workers").await, "stopped");
}

#[tokio::test]
async fn a_handler_beyond_the_drain_timeout_is_asked_then_dropped_and_its_run_comes_back() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let asked = Arc::new(AtomicBool::new(false));
    let saw = Arc::clone(&asked);
    let mut config = config("impatient");
    config.drain_timeout = Duration::from_millis(300);
    let worker = watchbell::Worker::builder(pool.clone())
        .config(config)
        .handler("deaf", move |ctx: Context| {
            let saw = Arc::clone(&saw);
            async move {
                ctx.cancelled().await;
                saw.store(ctx.stop_reason() == Some(StopReason::Shutdown), Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
        })
        .handler("heeding", |ctx: Context| async move {
            ctx.cancelled().await;
            HandlerResult::<()>::Err("put down".into())
        });
    let worker = start(worker);
    let (deaf, heeding) = (insert(pool, "deaf", &[]).await, insert(pool, "heeding", &[]).await);
    let last = insert(pool, "deaf", &[("max_attempts", "1")]).await;
    for run in [deaf, heeding, last] {
        until_status(pool, run, "running", SOON).await;
    }
    let told = Instant::now();
    worker.shut_down();
    worker.ended().await.unwrap();
    println!("300 ms to drain and 500 ms of grace took {:?}", told.elapsed());
    assert!(told.elapsed() >= Duration::from_millis(800) && told.elapsed() < Duration::from_secs(3));
    assert!(asked.load(Ordering::Relaxed));
    for run in [deaf, heeding] {
        let run = row(pool, run).await;
        assert_eq!((run.status.as_str(), run.attempt, run.crashes), ("pending", 1, 0), "{}", run.handler);
        let stopped = "stopped because its worker shut down".to_owned();
        assert_eq!(errors(pool, run.id.0).await, [(1, "interrupted".to_owned(), stopped)]);
    }
    let last = row(pool, last).await;
    assert_eq!(last.status, "failed");
    assert_eq!(last.error.as_deref(), Some("stopped because its worker shut down, on its last attempt"));
}

#[tokio::test]
async fn claims_that_never_started_go_back_with_their_attempt_unused() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let slow = Arc::new(AtomicBool::new(false));
    let gate = Arc::new(Semaphore::new(0));
    let started = Arc::new(AtomicUsize::new(0));
    let (is_slow, wait, count) = (Arc::clone(&slow), Arc::clone(&gate), Arc::clone(&started));
    let worker = start(hand(pool, "ahead").slots(1).handler("mixed", move || {
        let (is_slow, wait, count) = (Arc::clone(&is_slow), Arc::clone(&wait), Arc::clone(&count));
        async move {
            if is_slow.load(Ordering::Relaxed) {
                count.fetch_add(1, Ordering::Relaxed);
                wait.acquire().await.unwrap().forget();
            }
        }
    }));
    // fast runs teach the worker to claim ahead of its one slot
    let many = "insert into watchbell.runs (handler) select 'mixed' from generate_series(1, 300)";
    sqlx::query(many).execute(pool).await.unwrap();
    until_true(pool, "select count(*) = 0 from watchbell.runs_live", SOON).await;
    slow.store(true, Ordering::Relaxed);
    sqlx::query("insert into watchbell.runs (handler) select 'mixed' from generate_series(1, 20)")
        .execute(pool)
        .await
        .unwrap();
    until_true(pool, "select count(*) > 1 from watchbell.runs_live where status = 'running'", SOON).await;
    worker.shut_down();
    // all but the one that started are back while it still runs
    until_true(pool, "select count(*) = 1 from watchbell.runs_live where status = 'running'", SOON).await;
    let unused: i64 = one(
        pool,
        "select count(*) from watchbell.runs_live where status = 'pending' and attempt = 0 and error is null",
    )
    .await;
    assert_eq!(unused, 19);
    gate.add_permits(20);
    worker.ended().await.unwrap();
    assert_eq!(started.load(Ordering::Relaxed), 1);
    assert_eq!(one::<i64>(pool, "select count(*) from watchbell.run_errors").await, 0);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "forced").handler("deaf", std::future::pending::<()>));
    let run = insert(pool, "deaf", &[]).await;
    until_status(pool, run, "running", SOON).await;
    worker.shut_down();
    until_true(pool, "select state = 'draining' from watchbell.workers", SOON).await;
    let told = Instant::now();
    worker.force();
    worker.ended().await.unwrap();
    println!("ended {:?} after it was forced", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(2));
    let run = row(pool, run).await;
    assert_eq!((run.status.as_str(), run.attempt), ("pending", 1));
    assert_eq!(one::<String>(pool, "select state from watchbell.workers").await, "stopped");
}

#[tokio::test]
async fn a_process_that_gets_sigterm_drains_and_exits_well() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let mut process = Process::start(&Orders::new(&database.url, &journal, "process"));
    let run = insert(pool, "work", &[("payload", "'{\"ms\": 700}'")]).await;
    until_status(pool, run, "running", SOON).await;
    process.send(Signal::SIGTERM);
    let (status, took) = until("it has ended", SOON, async || process.ended()).await;
    println!("drained in {took:?}");
    assert!(status.success(), "{status}");
    assert_eq!(row(pool, run).await.status, "normal");
    let noted: Vec<String> = journal.entries().into_iter().map(|e| e.event).collect();
    assert_eq!(noted, ["start", "end"]);
    assert_eq!(one::<String>(pool, "select state from watchbell.workers").await, "stopped");
}

#[tokio::test]
async fn a_drain_asked_for_in_sql_ends_the_worker() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "asked").handler("none", || async {}));
    until_true(pool, "select state = 'running' from watchbell.workers", SOON).await;
    let ask = "insert into watchbell.worker_requests (request, worker_id) select 'drain', id from watchbell.workers";
    sqlx::query(ask).execute(pool).await.unwrap();
    tokio::time::timeout(SOON, worker.ended()).await.expect("it drains").unwrap();
    assert_eq!(one::<String>(pool, "select state from watchbell.workers").await, "stopped");
}

#[tokio::test]
async fn a_context_kept_beyond_its_run_does_not_hold_up_the_end() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = Arc::clone(&kept);
    let worker = start(hand(pool, "leaky").handler("leak", move |ctx: Context| {
        *keep.lock().unwrap() = Some(ctx);
        async {}
    }));
    let run = insert(pool, "leak", &[]).await;
    until_status(pool, run, "normal", SOON).await;
    worker.shut_down();
    tokio::time::timeout(SOON, worker.ended()).await.expect("it ends all the same").unwrap();
    assert!(kept.lock().unwrap().is_some());
}

#[tokio::test]
async fn a_worker_whose_future_is_dropped_is_gone_and_its_runs_come_back() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let dropped = CancellationToken::new();
    let told = dropped.clone();
    let worker = hand(pool, "dropped").handler("deaf", std::future::pending::<()>);
    let run_of_first = tokio::spawn(async move {
        tokio::select! {
            ended = worker.run(std::future::pending()) => ended,
            () = told.cancelled() => Ok(()),
        }
    });
    let run = insert(pool, "deaf", &[]).await;
    until_status(pool, run, "running", SOON).await;
    dropped.cancel();
    run_of_first.await.unwrap().unwrap();
    let heir = start(hand(pool, "heir").handler("deaf", || async {}));
    let over = until_status(pool, run, "normal", SOON).await;
    assert_eq!((over.attempt, over.fence), (2, 2));
    heir.stop().await;
}

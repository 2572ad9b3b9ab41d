//! Handlers that block their thread: nothing else stops, and nothing runs twice in silence.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde::Deserialize;
use watchbell::handler::HandlerOptions;
use watchbell::{Context, HandlerResult, State, blocking, seconds};

use crate::support::Database;
use crate::support::ask::{errors, insert, row, until_status};
use crate::support::crew::{config, hand, start};
use crate::support::wait::until;

const SOON: Duration = Duration::from_secs(30);

async fn nothing() {}

/// Lets a blocking handler return when the test says so, and says whether it was asked to stop.
#[derive(Clone)]
struct Gate {
    open: Arc<Mutex<mpsc::Receiver<HandlerResult>>>,
    asked: Arc<AtomicBool>,
    calls: Arc<AtomicU32>,
}

impl Gate {
    fn new() -> (Self, mpsc::Sender<HandlerResult>) {
        let (open, opened) = mpsc::channel();
        (Self { open: Arc::new(Mutex::new(opened)), asked: Arc::default(), calls: Arc::default() }, open)
    }

    fn pass(&self, ctx: &Context) -> HandlerResult {
        self.calls.fetch_add(1, Ordering::SeqCst);
        loop {
            self.asked.fetch_or(ctx.is_cancelled(), Ordering::SeqCst);
            match self.open.lock().unwrap().recv_timeout(Duration::from_millis(5)) {
                Ok(result) => return result,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    async fn until_asked(&self) {
        until("the handler is asked to stop", SOON, async || self.asked.load(Ordering::SeqCst).then_some(())).await;
    }
}

fn hold(State(gate): State<Gate>, ctx: Context) -> HandlerResult {
    gate.pass(&ctx)
}

#[tokio::test]
async fn a_blocking_handler_leaves_the_runtime_to_others() {
    #[derive(Deserialize)]
    struct Sum {
        upto: u64,
    }
    let database = Database::fresh().await;
    let pool = &database.pool;
    let (gate, open) = Gate::new();
    // this runtime has one thread: a handler that blocked it would block all
    let worker = start(
        hand(pool, "blocked")
            .state(gate.clone())
            .handler("hold", blocking(hold))
            .handler("sum", blocking(|sum: Sum, ctx: Context| ctx.log((1..=sum.upto).sum::<u64>().to_string())))
            .handler("panic", blocking(|| -> () { panic!("on a thread") }))
            .handler("mail", nothing),
    );
    let held = insert(pool, "hold", &[]).await;
    until("it holds", SOON, async || (gate.calls.load(Ordering::SeqCst) == 1).then_some(())).await;
    for (handler, status) in [("mail", "normal"), ("sum", "normal"), ("panic", "failed")] {
        let run = insert(pool, handler, &[("payload", "'{\"upto\": 10}'"), ("max_attempts", "1")]).await;
        let ended = until_status(pool, run, status, SOON).await;
        assert_eq!(ended.error.as_deref(), (handler == "panic").then_some("on a thread"));
    }
    assert_eq!(row(pool, held).await.status, "running");
    open.send(Ok(())).unwrap();
    until_status(pool, held, "normal", SOON).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_thread_that_does_not_stop_keeps_its_slot_and_its_run() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let (gate, open) = Gate::new();
    let worker = start(
        hand(pool, "stubborn")
            .slots(1)
            .state(gate.clone())
            .handler_with("hold", blocking(hold), HandlerOptions::new().max_running(1))
            .handler("mail", nothing),
    );
    let at_once = ("retry", "'{\"strategy\": \"fixed\", \"base\": \"1ms\"}'");
    let run = insert(pool, "hold", &[("timeout", "'50 ms'"), ("max_attempts", "2"), at_once]).await;
    gate.until_asked().await;
    // the grace of 500 ms is over, and still: no second attempt, and its slot is taken
    let mail = insert(pool, "mail", &[]).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let held = row(pool, run).await;
    assert_eq!((held.status.as_str(), held.attempt), ("running", 1));
    assert_eq!(row(pool, mail).await.status, "pending");
    assert_eq!(gate.calls.load(Ordering::SeqCst), 1);

    open.send(Err("stopped".into())).unwrap();
    until_status(pool, mail, "normal", SOON).await;
    until("the second attempt", SOON, async || (gate.calls.load(Ordering::SeqCst) == 2).then_some(())).await;
    assert_eq!(errors(pool, run).await, [(1, "timeout".to_owned(), "timed out: stopped".to_owned())]);
    // what it returns counts, late as it is
    open.send(Ok(())).unwrap();
    assert_eq!(until_status(pool, run, "normal", SOON).await.attempt, 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_thread_for_ever() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let (gate, open) = Gate::new();
    let mut config = config("leaving");
    config.drain_timeout = Duration::from_millis(100);
    config.grace = Duration::from_millis(100);
    let worker = start(hand(pool, "leaving").config(config).state(gate.clone()).handler("hold", blocking(hold)));
    let run = insert(pool, "hold", &[("timeout", "null")]).await;
    until("it holds", SOON, async || (gate.calls.load(Ordering::SeqCst) == 1).then_some(())).await;
    tokio::time::timeout(seconds(20), worker.stop()).await.unwrap();
    let back = row(pool, run).await;
    assert_eq!((back.status.as_str(), back.attempt), ("pending", 1));
    assert_eq!(errors(pool, run).await[0].1, "interrupted");
    assert!(gate.asked.load(Ordering::SeqCst));
    drop(open);
}

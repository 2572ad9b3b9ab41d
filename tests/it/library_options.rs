//! Options of one handler: how many at once, how long, when again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use watchbell::{HandlerOptions, HandlerResult, Worker, cron, hours, millis};

use crate::support::Database;
use crate::support::ask::{errors, insert, one, until_status};
use crate::support::crew::{config, hand, start};
use crate::support::wait::until_true;

const SOON: Duration = Duration::from_secs(30);

async fn nothing() {}

async fn fails() -> HandlerResult {
    Err("no luck".into())
}

#[tokio::test]
async fn a_full_handler_takes_no_slots_from_others_and_leaves_its_runs_to_other_workers() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let gate = Arc::new(Semaphore::new(0));
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let narrow = {
        let (gate, now, peak) = (Arc::clone(&gate), Arc::clone(&now), Arc::clone(&peak));
        move || {
            let (gate, now, peak) = (Arc::clone(&gate), Arc::clone(&now), Arc::clone(&peak));
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let _pass = gate.acquire().await.unwrap();
                now.fetch_sub(1, Ordering::SeqCst);
            }
        }
    };
    // before the worker, with the better priority, and some with a key: no claim could have passed them by
    for n in 0..12 {
        let key = if n % 3 == 0 { ("concurrency_key", "'k'") } else { ("priority", "0") };
        insert(pool, "narrow", &[key]).await;
    }
    let worker = hand(pool, "first").slots(4).handler("wide", nothing);
    let worker = start(worker.handler_with("narrow", narrow.clone(), HandlerOptions::new().max_running(2)));
    let running =
        |n| format!("count(*) filter (where handler = 'narrow' and status = 'running') = {n} from watchbell.runs_live");
    until_true(pool, &format!("select {}", running(2)), SOON).await;
    for _ in 0..20 {
        let run = insert(pool, "wide", &[]).await;
        until_status(pool, run, "normal", SOON).await;
    }
    assert!(one::<bool>(pool, &format!("select {}", running(2))).await, "full, and not a run more was claimed");

    // another worker has two places of its own
    let second =
        start(hand(pool, "second").handler("narrow", narrow).options("narrow", HandlerOptions::new().max_running(2)));
    until_true(pool, &format!("select {}", running(4)), SOON).await;
    gate.add_permits(1000);
    until_true(pool, "select count(*) = 12 from watchbell.runs where handler = 'narrow' and status = 'normal'", SOON)
        .await;
    worker.stop().await;
    second.stop().await;
    assert!(peak.load(Ordering::SeqCst) <= 4, "{peak:?}");
}

#[tokio::test]
async fn a_limited_handler_and_the_others_take_turns_at_the_slots() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let work = || tokio::time::sleep(millis(5));
    for (handler, runs) in [("wide", 400), ("narrow", 400), ("rare", 3)] {
        let backlog = "insert into watchbell.runs (handler) select $1 from generate_series(1, $2)";
        sqlx::query(backlog).bind(handler).bind(runs).execute(pool).await.unwrap();
    }
    let two = || HandlerOptions::new().max_running(2);
    let worker = hand(pool, "busy").slots(2).handler("wide", work);
    let worker = start(worker.handler_with("narrow", work, two()).handler_with("rare", work, two()));
    until_true(pool, "select count(*) = 3 from watchbell.runs where handler = 'rare' and status = 'normal'", SOON)
        .await;
    // both backlogs were worked at meanwhile, and neither first to its end
    let left = "select count(*) from watchbell.runs where status = 'normal' and handler = ";
    for handler in ["wide", "narrow"] {
        let done: i64 = one(pool, &format!("{left}'{handler}'")).await;
        assert!(done < 400, "{done} of {handler}");
    }
    let both = "select count(*) = 2 and bool_and(n > 10) from (select count(*) as n from watchbell.runs \
                where status = 'normal' and handler <> 'rare' group by handler) x";
    until_true(pool, both, SOON).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_does_what_is_due_and_ends_leaves_nothing_of_a_full_handler() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    for _ in 0..30 {
        insert(pool, "narrow", &[]).await;
    }
    let mut config = config("once");
    config.once = true;
    let worker = hand(pool, "once").config(config).options("narrow", HandlerOptions::new().max_running(1));
    start(worker.handler("narrow", nothing)).ended().await.unwrap();
    assert_eq!(one::<i64>(pool, "select count(*) from watchbell.runs where status = 'normal'").await, 30);
}

#[tokio::test]
async fn the_shorter_timeout_holds() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = hand(pool, "timed");
    let worker = start(
        worker
            .handler_with("short", std::future::pending::<()>, HandlerOptions::new().timeout(millis(50)))
            .handler_with("long", std::future::pending::<()>, HandlerOptions::new().timeout(hours(1)))
            .handler_with("none", std::future::pending::<()>, HandlerOptions::new().timeout(millis(50))),
    );
    for (handler, timeout) in [("short", "'1 h'"), ("long", "'50 ms'"), ("none", "null")] {
        let run = insert(pool, handler, &[("timeout", timeout), ("max_attempts", "1")]).await;
        until_status(pool, run, "failed", SOON).await;
        assert_eq!(errors(pool, run).await[0].1, "timeout", "{handler}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn the_retry_policy_of_a_handler_is_for_runs_without_one() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let options = HandlerOptions::new().retry(&json!({"strategy": "fixed", "base": "1ms"}));
    let worker = start(hand(pool, "trying").schedule("mail", cron("@yearly"), fails).options("mail", options));
    let without = insert(pool, "mail", &[("max_attempts", "4")]).await;
    let own =
        insert(pool, "mail", &[("retry", "'{\"strategy\": \"fixed\", \"base\": \"1h\", \"jitter\": false}'")]).await;
    assert_eq!(until_status(pool, without, "failed", SOON).await.attempt, 4);
    let waits = format!(
        "select status = 'pending' and attempt = 1 and run_at > now() + '50 min' from watchbell.runs where id = {own}"
    );
    until_true(pool, &waits, SOON).await;
    worker.stop().await;
}

#[tokio::test]
async fn options_that_cannot_hold_stop_the_start() {
    let unconnected = || Worker::builder(PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap());
    let cases = [
        (
            HandlerOptions::new().max_running(0),
            "handlers: options of handler \"mail\": max_running 0 is out of range 1 to 10000",
        ),
        (
            HandlerOptions::new().timeout(Duration::ZERO),
            "handlers: options of handler \"mail\": timeout 0s is shorter than the least of 1ms",
        ),
    ];
    for (options, sentence) in cases {
        let error = unconnected().handler_with("mail", nothing, options).run(async {}).await.unwrap_err();
        assert_eq!(error.to_string(), sentence);
    }
    let odd = HandlerOptions::new().retry(&json!({"strategy": "hope"}));
    let error = unconnected().handler_with("mail", nothing, odd).run(async {}).await.unwrap_err().to_string();
    assert!(error.starts_with("handlers: options of handler \"mail\": ") && error.contains("hope"), "{error}");
    let none = unconnected().handler("mail", nothing).options("male", HandlerOptions::new());
    assert_eq!(
        none.run(async {}).await.unwrap_err().to_string(),
        "handlers: options are given for \"male\", which is not registered"
    );
}

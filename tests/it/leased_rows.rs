//! Leased mode with workers at work: what handlers of watched rows know, keep and leave behind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};
use watchbell::{Context, HandlerResult, Outcome, Row, StopReason, snooze};

use crate::support::Database;
use crate::support::ask::one;
use crate::support::crew::{config, hand, start};
use crate::support::wait::{until, until_true};

const PATIENCE: Duration = Duration::from_secs(60);

/// A policy that soon tries again.
const SOON: &str = r#"{"strategy": "fixed", "base": "10ms", "jitter": false}"#;

#[derive(Debug, serde::Deserialize)]
struct Host {
    id: i64,
    name: String,
}

/// A database with a table `hosts` of so many pending rows, and a watch on it with these further columns.
async fn hosts(rows: u32, columns: &str, values: &str) -> Database {
    let database = Database::fresh().await;
    let table = format!(
        "create table hosts (id bigint primary key, name text, status text not null default 'pending');
         create index hosts_pending on hosts (id) where status = 'pending';
         insert into hosts (id, name) select i, 'host ' || i from generate_series(1, {rows}) i;
         analyze hosts;
         insert into watchbell.watches (name, table_name, poll_interval, retry, {columns})
         values ('hosts', 'public.hosts', '200 ms', '{SOON}', {values})"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(table)).execute(&database.pool).await.unwrap();
    database
}

async fn until_all(pool: &PgPool, state: &str) {
    until_true(pool, &format!("not exists (select from hosts where status <> '{state}')"), PATIENCE).await;
}

#[tokio::test]
async fn a_handler_knows_its_row_its_watch_and_which_attempt_it_is() {
    let database = hosts(2, "handler, via_state, payload", r#"'init', 'working', '{"port": 22}'"#).await;
    let pool = &database.pool;
    let seen = Arc::new(Mutex::new(vec![]));
    let said = Arc::clone(&seen);
    let init = move |host: Row<Host>, ctx: Context| {
        let said = Arc::clone(&said);
        async move {
            let (watch, step, key) = (ctx.watch().unwrap(), ctx.step().unwrap(), ctx.key().unwrap().join("/"));
            let line = format!("{watch} {step} {key} {} {} {}", host.name, ctx.attempt(), ctx.payload());
            said.lock().unwrap().push((line, ctx.idempotency_key()));
            assert!(ctx.row().unwrap().contains("\"pending\""));
            if host.id == 1 && ctx.attempt() == 1 { Err("not yet".into()) } else { HandlerResult::Ok(()) }
        }
    };
    let worker = start(hand(pool, "one").handler("init", init));
    until_all(pool, "normal").await;
    worker.stop().await;
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let lines: Vec<&str> = seen.iter().map(|(line, _)| line.as_str()).collect();
    let expected = [
        r#"hosts pending 1 host 1 1 {"port": 22}"#,
        r#"hosts pending 1 host 1 2 {"port": 22}"#,
        r#"hosts pending 2 host 2 1 {"port": 22}"#,
    ];
    assert_eq!(lines, expected);
    assert_eq!(seen[0].1, seen[1].1, "the same key at each attempt");
    assert_ne!(seen[0].1, seen[2].1);
    assert!(seen[0].1.starts_with("hosts:"));
}

#[tokio::test]
async fn a_snooze_keeps_data_and_no_attempt() {
    let database = hosts(1, "handler, via_state, max_attempts", "'train', 'training', 2").await;
    let pool = &database.pool;
    let seen = Arc::new(Mutex::new(vec![]));
    let said = Arc::clone(&seen);
    let train = move |ctx: Context| {
        let said = Arc::clone(&said);
        async move {
            let kept: Option<Vec<u32>> = ctx.kept()?;
            let mut kept = kept.unwrap_or_default();
            said.lock().unwrap().push((ctx.attempt(), kept.len()));
            kept.push(7);
            ctx.keep(&kept)?;
            match kept.len() {
                1..=3 => Ok(snooze(Duration::from_millis(20))),
                4 => Err("a failure keeps it too".into()),
                _ => HandlerResult::Ok(Outcome::Done),
            }
        }
    };
    let worker = start(hand(pool, "one").handler("train", train));
    until_all(pool, "normal").await;
    worker.stop().await;
    assert_eq!(*seen.lock().unwrap(), [(1, 0), (1, 1), (1, 2), (1, 3), (2, 4)]);
    assert_eq!(one::<i64>(pool, "select count(*) from watchbell.watch_claims").await, 0);
}

#[tokio::test]
async fn rows_flow_through_several_steps_and_each_may_fail() {
    let steps = r#"null, '[
        {"from": "pending", "via": "downloading", "to": "downloaded", "error": "unreachable", "handler": "download"},
        {"from": "downloaded", "via": "training", "to": "trained", "handler": "train", "max_attempts": 1},
        {"from": "trained", "to": "normal", "handler": "publish"}]'"#;
    let database = hosts(60, "handler, transitions", steps).await;
    let pool = &database.pool;
    let download = async |host: Row<Host>| if host.id % 10 == 0 { Err(watchbell::fatal("gone")) } else { Ok(()) };
    let train = async |host: Row<Host>| if host.id % 10 == 1 { HandlerResult::Err("diverged".into()) } else { Ok(()) };
    // two workers, neither of which has every handler
    let first = start(hand(pool, "a").handler("download", download).handler("publish", async |_: Context| {}));
    let second = start(hand(pool, "b").handler("train", train));
    let over = "not exists (select from hosts where status not in ('normal', 'failed', 'unreachable'))";
    until_true(pool, over, PATIENCE).await;
    first.stop().await;
    second.stop().await;
    let states = "select string_agg(status || ' ' || n, ', ' order by status) \
                  from (select status, count(*) n from hosts group by 1) x";
    assert_eq!(one::<String>(pool, states).await, "failed 6, normal 48, unreachable 6");
    let errors = "select string_agg(distinct step || ': ' || message, ', ') from watchbell.watch_errors";
    assert_eq!(one::<String>(pool, errors).await, "downloaded: diverged, pending: gone");
}

#[tokio::test]
async fn no_more_rows_are_in_work_than_max_running_says_over_all_workers() {
    let database = hosts(60, "handler, max_running", "'init', 3").await;
    let pool = &database.pool;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let worker = |name: &str| {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        let init = move |_: Context| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(3)).await;
                running.fetch_sub(1, Ordering::SeqCst);
            }
        };
        start(hand(pool, name).handler("init", init))
    };
    let workers = [worker("a"), worker("b")];
    until_all(pool, "normal").await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_drain_gives_back_what_does_not_end_in_time() {
    let database = hosts(6, "handler, via_state", "'init', 'working'").await;
    let pool = &database.pool;
    let mut config = config("leaver");
    (config.slots, config.drain_timeout) = (4, Duration::from_millis(300));
    let stopped = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&stopped);
    let init = move |ctx: Context| {
        let told = Arc::clone(&told);
        async move {
            ctx.cancelled().await;
            assert_eq!(ctx.stop_reason(), Some(StopReason::Shutdown));
            ctx.keep(&"halfway")?;
            told.fetch_add(1, Ordering::SeqCst);
            HandlerResult::<()>::Err("stopped".into())
        }
    };
    let worker = start(watchbell::Worker::builder(pool.clone()).config(config).handler("init", init));
    until_true(pool, "(select count(*) >= 4 from hosts where status = 'working')", PATIENCE).await;
    worker.stop().await;
    until_all(pool, "pending").await;
    assert_eq!(stopped.load(Ordering::SeqCst), 4);
    let claims = "select string_agg(distinct attempt || ' ' || coalesce(data ->> 0, '-'), ', ') \
                  from watchbell.watch_claims where claimed_by is null and attempt > 0";
    assert_eq!(one::<String>(pool, claims).await, "1 halfway");
    assert_eq!(one::<i64>(pool, "select count(*) from watchbell.watch_claims where claimed_by is not null").await, 0);
}

#[tokio::test]
async fn a_table_that_refuses_the_end_makes_it_a_failure_and_holds_up_no_other_row() {
    let database = hosts(20, "handler, via_state, max_attempts", "'init', 'working', 2").await;
    let pool = &database.pool;
    sqlx::query("alter table hosts add check (id <> 7 or status <> 'normal')").execute(pool).await.unwrap();
    let worker = start(hand(pool, "one").handler("init", async |_: Context| {}));
    until_true(pool, "not exists (select from hosts where status not in ('normal', 'failed'))", PATIENCE).await;
    worker.stop().await;
    assert_eq!(one::<i64>(pool, "select id from hosts where status = 'failed'").await, 7);
    let errors: Vec<String> = sqlx::query_scalar("select message from watchbell.watch_errors order by attempt")
        .fetch_all(pool)
        .await
        .unwrap();
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|error| error.starts_with("could not be moved to \"normal\": ")), "{errors:?}");
}

#[tokio::test]
async fn a_panic_and_a_timeout_are_failed_attempts() {
    let database = hosts(2, "handler, timeout, max_attempts", "'init', '50 ms', 1").await;
    let pool = &database.pool;
    let init = async |host: Row<Host>| {
        assert!(host.id != 1, "no host one");
        std::future::pending::<()>().await;
    };
    let worker = start(hand(pool, "one").handler("init", init));
    until_all(pool, "failed").await;
    worker.stop().await;
    let kinds = "select string_agg(kind, ' ' order by key) from watchbell.watch_errors";
    assert_eq!(one::<String>(pool, kinds).await, "panic timeout");
}

#[tokio::test]
async fn rows_get_their_share_of_slots_that_runs_would_fill() {
    let database = hosts(0, "handler", "'init'").await;
    let pool = &database.pool;
    let mut config = config("busy");
    config.slots = 4;
    let (held, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (gate, tell) = (Arc::clone(&held), Arc::clone(&begun));
    let long = move |_: Context| {
        let (gate, tell) = (Arc::clone(&gate), Arc::clone(&tell));
        async move {
            tell.notify_one();
            let _ = gate.acquire().await;
        }
    };
    let runs = "insert into watchbell.runs (handler) select 'long' from generate_series(1, 40)";
    sqlx::query(runs).execute(pool).await.unwrap();
    let worker = watchbell::Worker::builder(pool.clone()).config(config).handler("long", long);
    let worker = start(worker.handler("init", async |_: Context| {}));
    begun.notified().await;
    sqlx::query("insert into hosts (id) values (1), (2), (3)").execute(pool).await.unwrap();
    // as runs end one by one, rows come in between
    let (_, _) = until("rows are worked", PATIENCE, async || {
        held.add_permits(1);
        one::<bool>(pool, "select not exists (select from hosts where status <> 'normal')").await.then_some(())
    })
    .await;
    held.add_permits(100);
    worker.stop().await;
}

//! What handlers can count on, whatever they do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use watchbell::client::{Cancelled, RunId, cancel};
use watchbell::{Context, HandlerResult, Outcome, StopReason, fatal, retry_after, snooze};

use crate::support::Database;
use crate::support::ask::{errors, insert, one, row, until_status};
use crate::support::crew::{hand, hand_on_short_lease, start};
use crate::support::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(30);
const AT_ONCE: (&str, &str) = ("retry", "'{\"strategy\": \"fixed\", \"base\": \"1ms\"}'");

async fn nothing() {}

#[tokio::test]
async fn a_payload_that_does_not_fit_fails_at_once_in_one_sentence() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Mail {
        to: String,
    }
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "strict").handler("mail", |_: Mail| nothing()));
    let run = insert(pool, "mail", &[("payload", "'{\"to\": 7}'")]).await;
    let failed = until_status(pool, run, "failed", SOON).await;
    assert_eq!(failed.attempt, 1);
    let sentence = failed.error.unwrap();
    assert!(
        sentence.starts_with("payload does not fit handler \"mail\": invalid type: integer `7`, expected a string"),
        "{sentence}"
    );
    assert_eq!(errors(pool, run).await, [(1, "fatal".to_owned(), sentence)]);
    worker.stop().await;
}

#[tokio::test]
async fn an_error_is_retried_and_a_fatal_one_is_not() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(
        hand(pool, "failing")
            .handler("error", || async { HandlerResult::<()>::Err("no luck".into()) })
            .handler("fatal", || async { HandlerResult::<()>::Err(fatal("never")) }),
    );
    let (error, dead) = (insert(pool, "error", &[AT_ONCE]).await, insert(pool, "fatal", &[AT_ONCE]).await);
    let failed = until_status(pool, error, "failed", SOON).await;
    assert_eq!((failed.attempt, failed.error.as_deref()), (3, Some("no luck")));
    let said = |attempt| (attempt, "error".to_owned(), "no luck".to_owned());
    assert_eq!(errors(pool, error).await, [said(1), said(2), said(3)]);

    let failed = until_status(pool, dead, "failed", SOON).await;
    assert_eq!((failed.attempt, failed.error.as_deref()), (1, Some("never")));
    assert_eq!(errors(pool, dead).await, [(1, "fatal".to_owned(), "never".to_owned())]);
    worker.stop().await;
}

#[tokio::test]
async fn a_panic_is_a_failure_like_any_other() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    async fn panics(ctx: Context) {
        panic!("lost my head in attempt {}", ctx.attempt());
    }
    let worker = start(hand(pool, "calm").handler("panic", panics).handler("calm", nothing));
    let run = insert(pool, "panic", &[AT_ONCE, ("max_attempts", "2")]).await;
    let failed = until_status(pool, run, "failed", SOON).await;
    assert_eq!((failed.attempt, failed.crashes), (2, 0));
    assert_eq!(
        errors(pool, run).await,
        [1, 2].map(|attempt| (attempt, "panic".to_owned(), format!("lost my head in attempt {attempt}")))
    );
    let calm = insert(pool, "calm", &[]).await;
    until_status(pool, calm, "normal", SOON).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_delay_asked_for_is_kept() {
    const DELAY: Duration = Duration::from_millis(700);
    let database = Database::fresh().await;
    let pool = &database.pool;
    let starts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&starts);
    let later = move |ctx: Context| {
        let calls = {
            let mut starts = seen.lock().unwrap();
            starts.push((ctx.run_id().0, Instant::now()));
            starts.iter().filter(|(run, _)| *run == ctx.run_id().0).count()
        };
        async move {
            match ctx.handler() {
                _ if calls > 1 => Ok(Outcome::Done),
                "snooze" => Ok(snooze(DELAY)),
                _ => HandlerResult::Err(retry_after("busy", DELAY)),
            }
        }
    };
    let worker = start(hand(pool, "patient").handler("again", later.clone()).handler("snooze", later));
    let (again, snoozed) = (insert(pool, "again", &[]).await, insert(pool, "snooze", &[("max_attempts", "1")]).await);
    let (again, snoozed) =
        (until_status(pool, again, "normal", SOON).await, until_status(pool, snoozed, "normal", SOON).await);
    assert_eq!(again.attempt, 2);
    // a snooze uses up no attempt, and is no failure
    assert_eq!((snoozed.attempt, snoozed.fence), (1, 2));
    assert_eq!(errors(pool, snoozed.id.0).await, []);
    for run in [again, snoozed] {
        let starts: Vec<Instant> =
            starts.lock().unwrap().iter().filter(|(id, _)| *id == run.id.0).map(|(_, at)| *at).collect();
        let waited = starts[1] - starts[0];
        println!("{}: 700 ms took {waited:?}", run.handler);
        assert!(waited >= DELAY && waited < DELAY * 4, "{waited:?}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn what_a_handler_logs_is_kept_with_its_run() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "talkative").handler("talk", |ctx: Context| async move {
        ctx.log("first");
        ctx.log("second \0 \u{1f514}");
        let first: HandlerResult = Err("again".into());
        if ctx.attempt() == 1 { first } else { Ok(()) }
    }));
    let run = insert(pool, "talk", &[AT_ONCE]).await;
    until_status(pool, run, "normal", SOON).await;
    // the last lines of a worker arrive before it says that it has stopped
    worker.stop().await;
    let kept: Vec<(i32, String, Vec<u8>)> = sqlx::query_as(
        "select attempt, stream, string_agg(bytes, '' order by seq) from watchbell.run_output \
         where run_id = $1 group by 1, 2 order by 1",
    )
    .bind(run)
    .fetch_all(pool)
    .await
    .unwrap();
    let text = "first\nsecond \0 \u{1f514}\n".as_bytes().to_vec();
    assert_eq!(kept, [(1, "log".to_owned(), text.clone()), (2, "log".to_owned(), text)]);
}

#[tokio::test]
async fn a_timeout_asks_first_and_drops_after_the_grace() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let heeded = Arc::new(Mutex::new(None));
    let dropped = Arc::new(AtomicBool::new(false));
    let (saw, guard) = (Arc::clone(&heeded), Arc::clone(&dropped));
    let heeding = move |ctx: Context| {
        let saw = Arc::clone(&saw);
        async move {
            assert!(ctx.remaining().unwrap() <= Duration::from_millis(300));
            ctx.cancelled().await;
            *saw.lock().unwrap() = ctx.stop_reason();
            HandlerResult::<()>::Err("stopped half way".into())
        }
    };
    let deaf = move || {
        let guard = OnDrop(Arc::clone(&guard));
        async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        }
    };
    let worker = start(hand(pool, "timely").handler("heeding", heeding).handler("deaf", deaf));
    let limits = [("timeout", "'300 ms'"), ("max_attempts", "1")];
    let (heeding, deaf) = (insert(pool, "heeding", &limits).await, insert(pool, "deaf", &limits).await);
    let failed = until_status(pool, heeding, "failed", SOON).await;
    assert_eq!(*heeded.lock().unwrap(), Some(StopReason::Timeout));
    assert_eq!(errors(pool, failed.id.0).await, [(1, "timeout".to_owned(), "timed out: stopped half way".to_owned())]);
    let failed = until_status(pool, deaf, "failed", SOON).await;
    assert!(dropped.load(Ordering::Relaxed), "its future is dropped");
    assert_eq!(
        errors(pool, deaf).await,
        [(1, "timeout".to_owned(), "timed out: it did not stop when asked to".to_owned())]
    );
    let took = (failed.finished_at.unwrap() - failed.started_at.unwrap()).to_std().unwrap();
    println!("300 ms and 500 ms of grace took {took:?}");
    assert!(took >= Duration::from_millis(800) && took < Duration::from_secs(4), "{took:?}");
    worker.stop().await;
}

/// Notes that it was dropped.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_running_run_is_cancelled_within_two_seconds_and_knows_why() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let reason = Arc::new(Mutex::new(None));
    let saw = Arc::clone(&reason);
    let worker = start(hand(pool, "obedient").handler("long", move |ctx: Context| {
        let saw = Arc::clone(&saw);
        async move {
            ctx.cancelled().await;
            *saw.lock().unwrap() = ctx.stop_reason();
            HandlerResult::<()>::Err("stopped".into())
        }
    }));
    let run = insert(pool, "long", &[]).await;
    until_status(pool, run, "running", SOON).await;
    let asked = Instant::now();
    assert_eq!(cancel(pool, RunId(run), Some("wrong month")).await.unwrap(), Cancelled::Requested);
    let (_, _) = until("the handler is asked", SOON, async || reason.lock().unwrap().clone()).await;
    let heard = asked.elapsed();
    println!("cancelled after {heard:?}");
    assert!(heard < Duration::from_secs(4), "{heard:?}");
    let who: String = sqlx::query_scalar("select session_user::text").fetch_one(pool).await.unwrap();
    let why = format!("cancelled by {who}: wrong month");
    assert_eq!(*reason.lock().unwrap(), Some(StopReason::Cancelled(why.clone())));
    let over = until_status(pool, run, "cancelled", SOON).await;
    assert_eq!((over.attempt, over.error), (1, Some(why)));

    let waiting = insert(pool, "long", &[("run_at", "now() + '1 h'")]).await;
    assert_eq!(cancel(pool, RunId(waiting), Some("not needed")).await.unwrap(), Cancelled::Waiting);
    let over = row(pool, waiting).await;
    assert_eq!((over.status.as_str(), over.attempt), ("cancelled", 0));
    assert!(over.error.as_deref().is_some_and(|e| e.ends_with(": not needed")), "{:?}", over.error);
    assert_eq!(cancel(pool, RunId(waiting), None).await.unwrap(), Cancelled::Finished);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_handler_that_blocks_the_runtime_does_not_lose_the_lease() {
    let database = Database::fresh().await;
    let worker = start(hand_on_short_lease(&database.pool, "blocked").handler("block", || async {
        std::thread::sleep(Duration::from_secs(3));
    }));
    // judges of its own runtime, so that they see the lease while the other is blocked
    let url = database.url.clone();
    let watched = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pool = sqlx::PgPool::connect(&url).await.unwrap();
            let judge = start(hand_on_short_lease(&pool, "judge").handler("none", nothing));
            let run = insert(&pool, "block", &[]).await;
            let over = until_status(&pool, run, "normal", SOON).await;
            let dead: i64 = one(&pool, "select count(*) from watchbell.workers where state = 'dead'").await;
            judge.stop().await;
            (over.attempt, over.fence, dead)
        })
    });
    let seen = tokio::task::spawn_blocking(move || watched.join().unwrap()).await.unwrap();
    assert_eq!(seen, (1, 1, 0));
    worker.stop().await;
}

#[tokio::test]
async fn handlers_that_hold_every_connection_cost_no_heartbeat() {
    let database = Database::fresh().await;
    let two = sqlx::postgres::PgPoolOptions::new().max_connections(2).acquire_timeout(SOON);
    let two = two.connect(&database.url).await.unwrap();
    let pool = two.clone();
    let worker = start(hand_on_short_lease(&two, "greedy").slots(50).handler("hold", move || {
        let pool = pool.clone();
        async move {
            let _held = pool.acquire().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            HandlerResult::Ok(())
        }
    }));
    let judge = start(hand_on_short_lease(&database.pool, "judge").handler("none", nothing));
    let pool = &database.pool;
    until_true(pool, "select count(*) = 2 from watchbell.workers where state = 'running'", SOON).await;
    sqlx::query("insert into watchbell.runs (handler) select 'hold' from generate_series(1, 50)")
        .execute(pool)
        .await
        .unwrap();
    let mut oldest = 0.0_f64;
    let look = async || {
        let (age, left): (f64, i64) = sqlx::query_as(
            "select extract(epoch from max(clock_timestamp() - w.heartbeat_at))::float8, (select count(*) from watchbell.runs_live) \
             from watchbell.workers w",
        )
        .fetch_one(pool)
        .await
        .unwrap();
        oldest = oldest.max(age);
        (left == 0).then_some(())
    };
    until("all 50 are over", Duration::from_secs(20), look).await;
    println!("oldest heartbeat {oldest:.2} s");
    assert!(oldest < 1.9, "{oldest} s");
    let (normal, attempts): (i64, i64) =
        sqlx::query_as("select count(*) filter (where status = 'normal'), sum(attempt) from watchbell.runs")
            .fetch_one(pool)
            .await
            .unwrap();
    assert_eq!((normal, attempts), (50, 50));
    worker.stop().await;
    judge.stop().await;
}

#[tokio::test]
async fn a_run_that_waits_for_another_to_be_alone_spends_none_of_its_time() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    // it took its worker down twice, so it runs alone; the other is behind it, with less time than it takes
    sqlx::raw_sql(
        "insert into watchbell.runs_live (id, handler, crashes, max_attempts) values (1, 'long', 2, 5);
         insert into watchbell.runs_live (id, handler, timeout, max_attempts) values (2, 'short', '1 s', 1)",
    )
    .execute(pool)
    .await
    .unwrap();
    let long = || tokio::time::sleep(Duration::from_millis(2500));
    let worker = start(hand(pool, "one").handler("long", long).handler("short", nothing));
    let short = until_status(pool, 2, "normal", SOON).await;
    assert_eq!((short.attempt, short.error), (1, None));
    until_status(pool, 1, "normal", SOON).await;
    worker.stop().await;
}

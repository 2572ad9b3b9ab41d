//! Code around handlers and hooks: what they see, what they may do, and that they break nothing.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::Notify;
use watchbell::worker::{Builder, RunEvent};
use watchbell::{Context, HandlerResult, Outcome, Tx, snooze};

use crate::support::Database;
use crate::support::ask::{insert, one, row, until_status};
use crate::support::crew::{hand, start};
use crate::support::log::Log;
use crate::support::wait::until;

const SOON: Duration = Duration::from_secs(30);
const AT_ONCE: (&str, &str) = ("retry", "'{\"strategy\": \"fixed\", \"base\": \"1ms\"}'");

async fn nothing() {}

async fn must_not_run() {
    panic!("it must not be called");
}

async fn panics() {
    panic!("ouch");
}

/// Lines in the order in which things happened.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    async fn until(&self, count: usize) -> Vec<String> {
        until(&format!("{count} lines"), SOON, async || Some(self.lines()).filter(|lines| lines.len() >= count)).await.0
    }
}

/// A hook that notes what it is told.
fn noting(
    journal: &Journal,
    what: &'static str,
) -> impl Fn(RunEvent) -> std::future::Ready<()> + Send + Sync + 'static {
    let journal = journal.clone();
    move |event| {
        let RunEvent { handler, attempt, status, error, .. } = event;
        journal.note(format!("{what} {handler} {attempt} {status} {}", error.unwrap_or_default()).trim_end());
        std::future::ready(())
    }
}

fn hooked(worker: Builder, journal: &Journal) -> Builder {
    worker
        .on_start(noting(journal, "start"))
        .on_finish(noting(journal, "finish"))
        .on_retry(noting(journal, "retry"))
        .on_lost(noting(journal, "lost"))
}

fn layer(worker: Builder, journal: &Journal, name: &'static str) -> Builder {
    let journal = journal.clone();
    worker.around(move |ctx, next| {
        let journal = journal.clone();
        async move {
            journal.note(format!("{name} before {}", ctx.handler()));
            let outcome = next.run(ctx).await;
            journal.note(format!("{name} saw {outcome:?}"));
            outcome
        }
    })
}

#[tokio::test]
async fn code_around_handlers_runs_in_the_order_of_registration_and_sees_the_outcome() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::default();
    let inner = journal.clone();
    let worker = hand(pool, "layered").handler("mail", move || {
        inner.note("mail");
        async { Outcome::Cancel("enough".into()) }
    });
    let worker = start(layer(layer(worker, &journal, "outer"), &journal, "inner"));
    let run = insert(pool, "mail", &[]).await;
    until_status(pool, run, "cancelled", SOON).await;
    worker.stop().await;
    assert_eq!(
        journal.lines(),
        [
            "outer before mail",
            "inner before mail",
            "mail",
            "inner saw Cancel(\"enough\")",
            "outer saw Cancel(\"enough\")"
        ]
    );
}

#[tokio::test]
async fn code_around_handlers_may_answer_in_their_place() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    sqlx::query("create table public.written (at int)").execute(pool).await.unwrap();
    async fn write(mut tx: Tx) -> HandlerResult {
        sqlx::query("insert into public.written values (1)").execute(&mut *tx).await?;
        Ok(())
    }
    let worker = hand(pool, "strict")
        .handler("skipped", must_not_run)
        .transactional("undone", write)
        .transactional("spared", |_: Tx| must_not_run())
        .transactional("kept", write)
        .around(|ctx, next| async move {
            match ctx.handler() {
                "skipped" => Outcome::Cancel("not on Sundays".into()),
                "spared" => Outcome::Done,
                "undone" => {
                    next.run(ctx).await;
                    Outcome::Failed("found wanting afterwards".into())
                }
                _ => next.run(ctx).await,
            }
        });
    let worker = start(worker);
    let once = ("max_attempts", "1");
    for (handler, status, error) in [
        ("skipped", "cancelled", Some("not on Sundays")),
        ("undone", "failed", Some("found wanting afterwards")),
        ("spared", "normal", None),
        ("kept", "normal", None),
    ] {
        let run = insert(pool, handler, &[once]).await;
        assert_eq!(until_status(pool, run, status, SOON).await.error.as_deref(), error, "{handler}");
    }
    worker.stop().await;
    // what was written inside a transaction whose outcome was changed is rolled back
    assert_eq!(one::<i64>(pool, "select count(*) from public.written").await, 1);
}

#[tokio::test]
async fn the_timeout_is_for_all_of_it_and_a_panic_passes_through() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = hand(pool, "outer").handler("quick", nothing).handler("panic", panics);
    let worker = start(worker.around(|ctx: Context, next| async move {
        if ctx.handler() == "quick" {
            std::future::pending::<()>().await;
        }
        next.run(ctx).await
    }));
    for (handler, words) in [("quick", "timed out: it did not stop when asked to"), ("panic", "ouch")] {
        let run = insert(pool, handler, &[("max_attempts", "1"), ("timeout", "'100 ms'")]).await;
        assert_eq!(until_status(pool, run, "failed", SOON).await.error.as_deref(), Some(words));
    }
    worker.stop().await;
}

#[tokio::test]
async fn hooks_are_told_of_starts_retries_and_ends() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::default();
    let worker = hand(pool, "told")
        .handler("good", nothing)
        .handler("bad", || async { HandlerResult::<()>::Err("no luck".into()) })
        .handler("later", |ctx: Context| async move {
            if ctx.state::<()>().is_none() && ctx.fence() == 1 { snooze(Duration::ZERO) } else { Outcome::Done }
        })
        .handler("panic", panics)
        .transactional("tx", |_: Tx| async {});
    let worker = start(hooked(worker, &journal));
    let good = ["start good 1 running", "finish good 1 normal"];
    let bad =
        ["start bad 1 running", "retry bad 1 pending no luck", "start bad 2 running", "finish bad 2 failed no luck"];
    let later = ["start later 1 running", "retry later 1 pending", "start later 1 running", "finish later 1 normal"];
    let panic =
        ["start panic 1 running", "retry panic 1 pending ouch", "start panic 2 running", "finish panic 2 failed ouch"];
    let tx = ["start tx 1 running", "finish tx 1 normal"];
    let expected: [(&str, &[&str]); 5] =
        [("good", &good), ("bad", &bad), ("later", &later), ("panic", &panic), ("tx", &tx)];
    let mut all: Vec<&str> = vec![];
    for (handler, lines) in expected {
        insert(pool, handler, &[("max_attempts", "2"), AT_ONCE]).await;
        let before = all.len();
        all.extend(lines);
        let mut told = journal.until(all.len()).await.split_off(before);
        assert_eq!((told[0].as_str(), told[told.len() - 1].as_str()), (lines[0], lines[lines.len() - 1]));
        // a run that goes back to be run at once may have started before anybody is told that it went
        told.sort();
        let mut lines = lines.to_vec();
        lines.sort_unstable();
        assert_eq!(told, lines);
    }
    // an end that nobody executed: its start deadline had passed
    insert(pool, "good", &[("run_at", "now() - '1 h'::interval"), ("start_deadline", "now() - '1 min'::interval")])
        .await;
    all.push("finish good 1 cancelled start deadline passed before it started");
    let lines = journal.until(all.len()).await;
    assert_eq!(lines.last(), all.last().map(|line| (*line).to_owned()).as_ref());
    worker.stop().await;
    assert_eq!(journal.lines().len(), all.len());
}

#[tokio::test]
async fn a_hook_is_told_of_a_run_whose_end_was_refused() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::default();
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (Arc::clone(&began), Arc::clone(&go));
    let mail = move || {
        let (begins, goes) = (Arc::clone(&begins), Arc::clone(&goes));
        async move {
            begins.notify_one();
            goes.notified().await;
        }
    };
    let worker = start(hooked(hand(pool, "late").handler("mail", mail), &journal));
    let run = insert(pool, "mail", &[]).await;
    began.notified().await;
    // as if it had been taken back and claimed again, by one that lives: nobody is to take it back from that one
    let mut other = pool.begin().await.unwrap();
    for change in [
        "insert into watchbell.workers (id, name, host, pid, version, slots, state, lease_until)
         overriding system value values (99, 'other', 'h', 1, '1', 1, 'running', now() + interval '1 day')",
        "update watchbell.runs_live set status = 'pending', claimed_by = null, started_at = null",
        "update watchbell.runs_live set status = 'running', claimed_by = 99, started_at = now(), fence = fence + 1",
    ] {
        sqlx::query(change).execute(&mut *other).await.unwrap();
    }
    other.commit().await.unwrap();
    go.notify_one();
    assert_eq!(journal.until(2).await, ["start mail 1 running", "lost mail 1 running"]);
    assert_eq!(row(pool, run).await.status, "running");
    worker.stop().await;
}

#[tokio::test]
async fn a_hook_is_told_of_the_runs_that_are_lost_with_the_lease() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::default();
    let mail = |ctx: Context| async move {
        if ctx.attempt() == 1 {
            std::future::pending::<()>().await;
        }
    };
    let worker = start(hooked(hand(pool, "thought-dead").handler("mail", mail), &journal));
    insert(pool, "mail", &[AT_ONCE]).await;
    journal.until(1).await;
    sqlx::query("update watchbell.workers set state = 'dead', ended_at = now()").execute(pool).await.unwrap();
    let lines = ["start mail 1 running", "lost mail 1 running", "start mail 2 running", "finish mail 2 normal"];
    assert_eq!(journal.until(4).await, lines);
    worker.stop().await;
}

#[tokio::test]
async fn a_hook_that_panics_or_hangs_breaks_and_delays_nothing() {
    let database = Database::fresh().await;
    let pool: &PgPool = &database.pool;
    let journal = Journal::default();
    let worker = hand(pool, "calm")
        .handler("mail", nothing)
        .on_start(|_| async { panic!("a hook's own trouble") })
        .on_finish(|event| async move {
            if event.run_id.0 % 2 == 0 {
                panic!("again");
            }
        })
        .on_finish(noting(&journal, "finish"));
    let worker = start(worker);
    for count in 1..=4 {
        let run = insert(pool, "mail", &[]).await;
        until_status(pool, run, "normal", SOON).await;
        journal.until(count).await;
    }
    worker.stop().await;

    let worker = start(hand(pool, "stuck").handler("mail", nothing).on_start(|_| std::future::pending()));
    for _ in 0..3 {
        let run = insert(pool, "mail", &[]).await;
        until_status(pool, run, "normal", Duration::from_secs(5)).await;
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_hook_that_panics_or_takes_10_s_is_logged_and_the_next_is_told() {
    let log = Log::default();
    let _listening = log.listen();
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::default();
    let worker = hand(pool, "patient").handler("mail", nothing);
    let worker = worker.on_start(|_| async { panic!("a hook's own trouble") });
    let worker = start(worker.on_start(|_| std::future::pending()).on_start(noting(&journal, "start")));
    let run = insert(pool, "mail", &[]).await;
    until_status(pool, run, "normal", SOON).await;
    let ended = Instant::now();
    assert_eq!(journal.until(1).await, ["start mail 1 running"]);
    assert!(ended.elapsed() > Duration::from_secs(8), "a hook that hangs is dropped after {:?}", ended.elapsed());
    for words in ["a hook panicked; the run is not affected", "a hook took longer than 10s and was dropped"] {
        let lines = log.lines_with(words);
        assert_eq!(lines.len(), 1, "{}", log.text());
        let named = format!("run={run} occasion=Start");
        assert!(lines[0].contains("ERROR") && lines[0].contains(&named), "{lines:?}");
    }
    worker.stop().await;
}

//! A worker inside a program: its handle, the program's own token, and what it says to `tracing`.

use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use watchbell::{Error, cron, once, seconds};

use crate::support::ask::{insert, one, row, until_status};
use crate::support::crew::hand;
use crate::support::wait::until_true;
use crate::support::{Database, skip};

const SOON: Duration = Duration::from_secs(30);

async fn nothing() {}

#[tokio::test]
async fn a_worker_ends_with_the_programs_own_token_and_waits_for_its_runs() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let token = CancellationToken::new();
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (Arc::clone(&began), Arc::clone(&go));
    let mail = move || {
        let (begins, goes) = (Arc::clone(&begins), Arc::clone(&goes));
        async move {
            begins.notify_one();
            goes.notified().await;
        }
    };
    let worker = hand(pool, "token").handler("mail", mail);
    let told = token.clone();
    let worker = tokio::spawn(async move { worker.run(told.cancelled()).await });
    let run = insert(pool, "mail", &[]).await;
    began.notified().await;
    token.cancel();
    until_true(pool, "select state = 'draining' from watchbell.workers", SOON).await;
    go.notify_one();
    worker.await.unwrap().unwrap();
    assert_eq!(row(pool, run).await.status, "normal");
}

#[tokio::test]
async fn a_handle_knows_its_worker_and_ends_it() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = hand(pool, "handled").handler("mail", nothing).start().await.unwrap();
    let registered: i32 = one(pool, "select id from watchbell.workers where name = 'handled'").await;
    assert_eq!(worker.worker_id(), registered);
    let run = insert(pool, "mail", &[]).await;
    until_status(pool, run, "normal", SOON).await;
    assert!(!worker.is_finished());
    worker.shutdown();
    worker.join().await.unwrap();
    assert_eq!(one::<String>(pool, "select state from watchbell.workers").await, "stopped");

    // one that cannot start says so at once
    let refused = hand(pool, "empty").start().await.unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }));
}

#[tokio::test]
async fn a_handle_that_is_dropped_shuts_its_worker_down_in_good_order() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = hand(pool, "dropped").handler("mail", nothing).start().await.unwrap();
    until_true(pool, "select state = 'running' from watchbell.workers", SOON).await;
    drop(worker);
    until_true(pool, "select state = 'stopped' from watchbell.workers", SOON).await;
    // and one that is forced does not wait for its handlers
    let stuck = hand(pool, "forced").handler("stuck", std::future::pending::<()>).start().await.unwrap();
    let run = insert(pool, "stuck", &[]).await;
    until_status(pool, run, "running", SOON).await;
    stuck.force();
    tokio::time::timeout(seconds(5), stuck.join()).await.unwrap().unwrap();
    assert_eq!(row(pool, run).await.status, "pending");
}

#[test]
fn a_program_without_features_gets_no_web_or_command_line_crate() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--no-default-features", "--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let Ok(tree) = tree.map(|output| String::from_utf8(output.stdout).unwrap()) else {
        return skip("cargo is not here any more");
    };
    assert!(tree.contains("sqlx"), "{tree}");
    for unwanted in ["clap", "axum", "hyper", "reqwest", "comfy-table", "tracing-subscriber", "toml", "nix"] {
        assert!(!tree.lines().any(|line| line.starts_with(&format!("{unwanted} "))), "{unwanted} is in the tree");
    }
}

/// What was logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Hears this thread, and with it a test and its worker, while what it answers is held.
    fn listen(&self) -> impl Sized + use<> {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let guard = tracing::subscriber::set_default(subscriber);
        // with one subscriber alone, a thread of another test that has none would switch shared call sites off
        (guard, tracing::Dispatch::new(tracing_subscriber::registry()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn a_start_names_what_is_no_longer_declared_in_one_warning() {
    let log = Log::default();
    let _listening = log.listen();
    let database = Database::fresh().await;
    let release = |names: &[&'static str]| {
        let worker = hand(&database.pool, "released").owner("shop").handler("other", nothing);
        names.iter().fold(worker, |worker, &name| worker.schedule(name, cron("@daily"), nothing))
    };
    release(&["a", "b", "c"]).run(async {}).await.unwrap();
    assert!(!log.text().contains("no longer declared"));
    release(&["b"]).run(async {}).await.unwrap();
    let text = log.text();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("no longer declared")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("WARN") && warnings[0].contains(r#"owner="shop" schedules=["a", "c"]"#), "{text}");
    // nor did the database warn of handlers that nobody had registered yet
    assert!(!text.contains("no worker has ever registered"), "{text}");
}

#[tokio::test]
async fn an_attempt_runs_inside_a_span_that_names_it() {
    let log = Log::default();
    let _listening = log.listen();
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = hand(pool, "spanned")
        .schedule("first", once(seconds(0)).queue("letters"), || async { tracing::info!("async at work") })
        .handler("block", watchbell::blocking(|| tracing::info!("thread at work")));
    let worker = worker.start().await.unwrap();
    until_true(pool, "exists (select from watchbell.runs where handler = 'first' and status = 'normal')", SOON).await;
    let block = insert(pool, "block", &[]).await;
    until_status(pool, block, "normal", SOON).await;
    worker.shutdown();
    worker.join().await.unwrap();
    let text = log.text();
    let id: i64 = one(pool, "select id from watchbell.runs where handler = 'first'").await;
    let span = format!("run{{id={id} handler=\"first\" queue=\"letters\" attempt=1 schedule=\"first\"}}");
    let line = text.lines().find(|line| line.ends_with("async at work")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(&span), "{line}");
}

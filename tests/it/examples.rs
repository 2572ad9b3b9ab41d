//! Every example does what its first lines say: each is started as a program, on a database of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::OnceCell;

use crate::support::Database;

/// Longest wait for a line, or for the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The examples of this test; one that is not here fails it.
const EXAMPLES: [&str; 8] = [
    "axum_service",
    "hello",
    "jobs",
    "retry_and_snooze",
    "shutdown",
    "testing",
    "three_kinds",
    "transactional_enqueue",
];

#[test]
fn every_example_is_tested_and_says_how_to_start_it() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found = vec![];
    for file in std::fs::read_dir(root).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let main = if path.is_dir() { path.join("main.rs") } else { path.clone() };
        let text = std::fs::read_to_string(&main).unwrap();
        assert!(text.starts_with("//! "), "{name} does not say what it is about");
        assert!(text.contains(&format!("--example {name}")), "{name} does not say how to start it");
        found.push(name);
    }
    found.sort();
    assert_eq!(found, EXAMPLES);
}

#[tokio::test]
async fn hello_says_hello_at_its_fire_times() {
    let database = Database::empty().await;
    let mut hello = Example::start("hello", &database, &[]).await;
    hello.line("hello from run 1, due at ");
    hello.line("hello from run 2, due at ");
    hello.interrupt();
    hello.ends();
}

#[tokio::test]
async fn transactional_enqueue_invoices_what_was_committed() {
    let database = Database::empty().await;
    let mut example = Example::start("transactional_enqueue", &database, &[]).await;
    example.line("order 2 is invoiced by run ");
    example.line("invoices of orders [2], and none of order 1");
    example.ends();
}

#[tokio::test]
async fn jobs_are_declared_and_rows_are_worked() {
    let database = Database::empty().await;
    let mut jobs = Example::start("jobs", &database, &[]).await;
    jobs.line("worker 1 has the jobs");
    let rows = "insert into public.hosts (address) values ('10.0.0.1'); \
                insert into public.models (name, version) values ('owl', 3)";
    sqlx::raw_sql(rows).execute(&database.pool).await.unwrap();
    jobs.line("host 1 is set up");
    jobs.line("owl 3 is downloaded");
    jobs.line("owl 3 is trained");
    jobs.interrupt();
    jobs.ends();
}

#[tokio::test]
async fn three_kinds_tick_side_by_side() {
    let database = Database::empty().await;
    let mut example = Example::start("three_kinds", &database, &[]).await;
    let mut missing = vec!["cron", "fixed_rate", "fixed_delay"];
    while !missing.is_empty() {
        let line = example.line("");
        missing.retain(|kind| !line.starts_with(&format!("{kind:<11} at ")));
    }
    example.interrupt();
    example.ends();
}

#[tokio::test]
async fn retry_and_snooze_arrives_at_the_fourth_call() {
    let database = Database::empty().await;
    let mut example = Example::start("retry_and_snooze", &database, &[]).await;
    for line in [
        "call 1, attempt 1",
        "call 2, attempt 1",
        "call 3, attempt 2",
        "call 4, attempt 3",
        "delivered to Mill Lane 7",
        "run 1 is failed after 1 attempts",
        "  attempt 1, fatal: there is no address on it",
        "run 2 is normal after 3 attempts",
        "  attempt 1, error: nobody is at home",
        "  attempt 2, error: come back after lunch",
    ] {
        assert_eq!(example.line(""), line);
    }
    example.ends();
}

#[tokio::test]
async fn shutdown_waits_for_one_run_and_gives_the_other_back() {
    let database = Database::empty().await;
    let mut example = Example::start("shutdown", &database, &[("SHUTDOWN_AFTER_MS", "1000")]).await;
    example.line("shutting down");
    example.line("run 1 has arrived");
    assert!(example.line("run 2 stops at step ").ends_with("Some(Shutdown)"));
    example.line("run 1 is normal");
    example.line("run 2 is pending");
    example.ends();
}

#[tokio::test]
async fn axum_service_answers_works_and_ends_both() {
    let database = Database::empty().await;
    let mut example = Example::start("axum_service", &database, &[("ADDRESS", "127.0.0.1:0")]).await;
    let address = example.line("listening on ").trim_start_matches("listening on ").to_owned();
    let signup = r#"{"email": "a@b.c"}"#;
    let answer = ask(&address, "POST /signups", signup);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n1"), "{answer}");
    example.line("run 1: welcome, a@b.c");
    assert!(ask(&address, "POST /signups", signup).starts_with("HTTP/1.1 409"));
    assert!(ask(&address, "GET /runs/1", "").contains(r#""handler":"welcome""#));
    assert!(ask(&address, "GET /runs/7", "").starts_with("HTTP/1.1 404"));
    example.interrupt();
    example.line("ended in good order");
    example.ends();
}

#[tokio::test]
async fn the_tests_of_the_testing_example_pass() {
    let database = Database::empty().await;
    build().await;
    let mut command = cargo();
    command.args(["test", "--offline", "--quiet", "--example", "testing"]).args(profile());
    let done = command.env("DATABASE_URL", &database.admin_url).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("5 passed"), "{said}");
}

/// One request on a connection of its own; the whole answer.
fn ask(address: &str, line: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nhost: example\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// An example that runs; killed when this is dropped.
struct Example {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Example {
    async fn start(name: &'static str, database: &Database, environment: &[(&str, &str)]) -> Self {
        build().await;
        let program = PathBuf::from(env!("CARGO_BIN_EXE_watchbell")).with_file_name("examples").join(name);
        let mut command = Command::new(program);
        command.env("DATABASE_URL", &database.url).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { name, child, lines, seen: vec![] }
    }

    /// The next line that begins so; those before it are passed over.
    fn line(&mut self, beginning: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| {
                panic!("{}: no line \"{beginning}\" among:\n{}", self.name, self.seen.join("\n"));
            });
            self.seen.push(line.clone());
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    /// As by Ctrl-C.
    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    /// It ends by itself, in good order: its output ends first.
    fn ends(mut self) {
        let until = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        assert!(Instant::now() < until, "{} does not end; it said:\n{}", self.name, self.seen.join("\n"));
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{} ended with {status}; it said:\n{}", self.name, self.seen.join("\n"));
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cargo test` builds the examples, `cargo test --test it` does not: whatever is there is brought up to date.
async fn build() {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    let build = async || {
        let built = cargo().args(["build", "--offline", "--quiet", "--examples"]).args(profile()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    };
    BUILT.get_or_init(build).await;
}

/// Without what cargo told this process, so that it finds everything built.
fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let known = name.to_string_lossy();
        if known.starts_with("CARGO_PKG_") || known.starts_with("CARGO_MANIFEST_") || known.starts_with("CARGO_BIN_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn profile() -> &'static [&'static str] {
    let debug = env!("CARGO_BIN_EXE_watchbell").contains("/debug/");
    if debug { &[] } else { &["--release"] }
}

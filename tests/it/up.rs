//! `up` and `worker run` as processes: what they say, do, keep and end with.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};
use watchbell::embedded::Binaries;

use crate::support::{Database, skip};

fn watchbell(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
    for (name, _) in std::env::vars() {
        if name.starts_with("PG") || name.contains("DATABASE_URL") || name.starts_with("WATCHBELL_") {
            command.env_remove(name);
        }
    }
    command.env("WATCHBELL_CONFIG", "none");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs to the end; answers the exit code and what was said.
fn ended(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_run_once_does_what_is_due() {
    let database = Database::fresh().await;
    sqlx::raw_sql(
        "create table public.done (n int);
         insert into watchbell.runs (handler, payload)
         select 'sql', jsonb_build_object('statement', 'insert into public.done values (' || n || ')') from generate_series(1, 5) n;
         insert into watchbell.runs (handler, run_at) values ('sql', now() + interval '1 day'), ('other', now())",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    let mut command = watchbell(&["worker", "run", "--once", "--enable-sql"]);
    command.env("DATABASE_URL", &database.url);
    let (code, said) = ended(command);
    assert_eq!(code, Some(0), "{said}");
    let counts: (i64, i64) =
        sqlx::query_as("select (select count(*) from public.done), (select count(*) from watchbell.runs_live)")
            .fetch_one(&database.pool)
            .await
            .unwrap();
    assert_eq!(counts, (5, 2), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_could_not_work_says_so_and_ends() {
    let database = Database::fresh().await;
    let empty = Database::empty().await;
    let run = |url: &str, arguments: &[&str]| {
        let mut command = watchbell(&["--log-level", "error", "worker", "run"]);
        command.args(arguments).env("WATCHBELL_DATABASE_URL", url);
        ended(command)
    };
    for (url, arguments, code, expected) in [
        (
            database.url.as_str(),
            &[][..],
            2,
            "error: handlers: none is enabled, so this worker could not run anything; enable the handler sql with --enable-sql",
        ),
        (
            &database.url,
            &["--enable-sql", "--handlers", "sqll"],
            2,
            "error: --handlers: \"sqll\" is not enabled (enabled: sql)",
        ),
        (
            &empty.url,
            &["--enable-sql"],
            6,
            "error: schema watchbell does not exist in this database; run: watchbell migrate up",
        ),
        ("postgres://127.0.0.1:1/x", &["--enable-sql"], 5, "error: cannot connect to"),
    ] {
        let (ended, said) = run(url, arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let is_superuser = "select rolsuper from pg_roles where rolname = session_user";
    let is_superuser: bool =
        sqlx::query_scalar(is_superuser).fetch_one(&mut database.connect_admin().await).await.unwrap();
    if is_superuser {
        let (code, said) = run(&database.admin_url, &["--enable-sql"]);
        assert_eq!(code, Some(7), "{said}");
        assert!(said.contains("is a superuser") && said.contains("--allow-superuser-sql"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_drains_and_the_second_stops_at_once() {
    for (signals, expected) in [(1, "normal"), (2, "pending")] {
        let database = Database::fresh().await;
        let id: i64 = sqlx::query_scalar(
            "insert into watchbell.runs (handler, payload)
             values ('sql', '{\"statement\": \"select pg_sleep(3)\"}') returning id",
        )
        .fetch_one(&database.pool)
        .await
        .unwrap();
        let mut command = watchbell(&["worker", "run", "--enable-sql"]);
        let mut child = command.env("WATCHBELL_DATABASE_URL", &database.url).spawn().unwrap();
        let status = async || -> String {
            let status = "select status from watchbell.runs where id = $1";
            sqlx::query_scalar(status).bind(id).fetch_one(&database.pool).await.unwrap()
        };
        while status().await != "running" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..signals {
            terminate(&child);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let begun = Instant::now();
        let code = child.wait().unwrap().code();
        println!("{signals} signals: ended after {:?}", begun.elapsed());
        assert_eq!((code, status().await.as_str()), (Some(0), expected), "{signals} signals");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_with_its_parent() {
    let database = Database::fresh().await;
    let mut command = watchbell(&["worker", "run", "--enable-sql", "--exit-with-parent"]);
    command.stdin(Stdio::piped()).env("WATCHBELL_DATABASE_URL", &database.url);
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    until(&mut said, "worker started");
    drop(child.stdin.take());
    let begun = Instant::now();
    child.wait().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn up_keeps_its_data_from_one_start_to_the_next() {
    if Binaries::find().is_err() {
        return skip("there are no PostgreSQL programs");
    }
    let state = std::env::temp_dir().join(format!("watchbell-up-{}", std::process::id()));
    std::fs::create_dir(&state).unwrap();
    // Where the server runs as another user, that user must get through.
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (mut child, mut said, url) = up(&state);
    until(&mut said, "schema: migrated from version 0 to");
    until(&mut said, "worker started");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(
        "create table kept (n int);
         insert into watchbell.runs (handler, payload) values ('sql', '{\"statement\": \"insert into kept values (1)\"}')",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    kept(&mut connection, 1).await;
    let schema: String = sqlx::query_scalar("select schemaname::text from pg_tables where tablename = 'kept'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(schema, "public", "a user's table is among ours");
    end(&mut child, &mut said);
    assert!(PgConnection::connect(&url).await.is_err(), "the server still runs");

    let (mut child, mut said, again) = up(&state);
    assert_eq!(again, url);
    until(&mut said, "worker started");
    kept(&mut PgConnection::connect(&url).await.unwrap(), 1).await;
    end(&mut child, &mut said);
    std::fs::remove_dir_all(&state).unwrap();
}

/// Starts `up` and reads the address it says.
fn up(state: &Path) -> (Child, BufReader<ChildStderr>, String) {
    let mut child = watchbell(&["up"]).env("XDG_STATE_HOME", state).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let line = until(&mut said, "database: ");
    (child, said, line.trim_end().trim_start_matches("database: ").to_owned())
}

fn end(child: &mut Child, said: &mut BufReader<ChildStderr>) {
    terminate(child);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
}

fn terminate(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
}

/// Reads to the line that contains a text, and answers it.
fn until(said: &mut BufReader<ChildStderr>, text: &str) -> String {
    let mut all = String::new();
    loop {
        let begin = all.len();
        assert_ne!(said.read_line(&mut all).unwrap(), 0, "it ended before \"{text}\":\n{all}");
        if all[begin..].contains(text) {
            return all[begin..].to_owned();
        }
    }
}

/// Waits for so many rows in the table.
async fn kept(connection: &mut PgConnection, expected: i64) {
    for _ in 0..200 {
        let count: i64 = sqlx::query_scalar("select count(*) from kept").fetch_one(&mut *connection).await.unwrap();
        if count == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {expected} rows");
}

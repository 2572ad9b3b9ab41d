//! What runs print: in order, bounded, whatever bytes it is, and never in the way of a run's end.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use watchbell::client::{RunOutput, run_errors};
use watchbell::embedded::Halt;
use watchbell::handler::Stream;
use watchbell::{Context, HandlerResult, RunId};

use crate::support::ask::{insert, one, until_status};
use crate::support::commands::{Place, Program, anything, command, printed, printed_text};
use crate::support::crew::{hand, start};
use crate::support::database::install;
use crate::support::wait::{until, until_true};
use crate::support::{Database, private_server};

const SOON: Duration = Duration::from_secs(30);

/// Streams and bytes of a run's rows, in their order.
async fn rows(pool: &PgPool, run: i64) -> Vec<(String, Vec<u8>)> {
    let query = "select stream, bytes from watchbell.run_output where run_id = $1 order by attempt, seq";
    sqlx::query_as(query).bind(run).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn whoever_sees_the_end_finds_the_output() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "printer").handler("talk", |ctx: Context| async move {
        ctx.log("said");
        HandlerResult::Ok(())
    }));
    for _ in 0..20 {
        let run = insert(pool, "talk", &[]).await;
        until_status(pool, run, "normal", SOON).await;
        assert_eq!(printed_text(pool, run, "log").await, "said\n");
    }
    worker.stop().await;
}

#[tokio::test]
async fn streams_are_kept_apart_and_in_order() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "printer").handler("shell", anything()).handler("talk", |ctx: Context| async move {
        ctx.output(Stream::Stdout, b"1");
        ctx.output(Stream::Stderr, b"2");
        ctx.log("3");
        ctx.output(Stream::Stdout, b"4");
        ctx.output(Stream::Stdout, b"5");
        HandlerResult::Ok(())
    }));
    let run = insert(pool, "talk", &[]).await;
    until_status(pool, run, "normal", SOON).await;
    let expected = [("stdout", "1"), ("stderr", "2"), ("log", "3\n"), ("stdout", "45")];
    let expected: Vec<_> = expected.map(|(stream, text)| (stream.to_owned(), text.as_bytes().to_vec())).into();
    assert_eq!(rows(pool, run).await, expected);
    let run = command(
        pool,
        &json!({"command": "for i in 1 2 3 4 5; do echo o$i; sleep 0.02; echo e$i >&2; sleep 0.02; done"}),
        &[],
    )
    .await;
    until_status(pool, run, "normal", SOON).await;
    let text: String = (1..=5).map(|n| format!("o{n}\ne{n}\n")).collect();
    assert_eq!(printed_text(pool, run, "%").await, text);
    worker.stop().await;
}

#[tokio::test]
async fn output_is_written_after_a_second_or_a_thousand_lines_or_64_kib() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "printer").handler("shell", anything()));
    let written = |run: i64, bytes: u64| {
        format!("(select sum(length(bytes)) >= {bytes} from watchbell.run_output where run_id = {run})")
    };
    // a little: within a second or so, while the command goes on
    let run = command(pool, &json!({"command": "echo hello; sleep 600"}), &[]).await;
    until_status(pool, run, "running", SOON).await;
    let took = until_true(pool, &written(run, 6), SOON).await;
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    // much: at once. The writer has just begun to wait, or is idle
    for line in ["yes | head -n 1000; sleep 600", "head -c 65536 /dev/zero; sleep 600"] {
        let run = command(pool, &json!({"command": line}), &[]).await;
        until_status(pool, run, "running", SOON).await;
        let took = until_true(pool, &written(run, 2000), SOON).await;
        println!("{line}: {took:?}");
        assert!(took < Duration::from_millis(900), "{line}: {took:?}");
    }
    worker.shut_down();
    worker.force();
    worker.ended().await.unwrap();
}

#[tokio::test]
async fn any_bytes_are_kept_as_they_are() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "printer").handler("shell", anything()));
    // NUL, invalid UTF-8, a lone surrogate, every other byte
    let bytes = "printf 'a\\000b\\377\\355\\240\\200\\n'; for i in 0 1 2 3; do printf \"\\\\$i\"; done; exit 3";
    let run = command(pool, &json!({"command": bytes}), &[]).await;
    let row = until_status(pool, run, "failed", SOON).await;
    assert_eq!(row.error.as_deref(), Some("exit code 3"));
    assert_eq!(printed(pool, run, "stdout").await, b"a\0b\xff\xed\xa0\x80\n\0\x01\x02\x03");
    // in the message too, which is text
    let run = command(pool, &json!({"command": "printf 'bad \\000\\377' >&2; exit 1"}), &[]).await;
    let row = until_status(pool, run, "failed", SOON).await;
    assert_eq!(row.error.as_deref(), Some("exit code 1: bad  \u{fffd}"));
    worker.stop().await;
}

#[tokio::test]
async fn the_middle_of_long_output_is_cut_and_counted() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "printer").output_limit(10_000).handler("shell", anything()));
    let run = command(pool, &json!({"command": "seq 1 100000"}), &[]).await;
    until_status(pool, run, "normal", SOON).await;
    let all: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    let kept = printed_text(pool, run, "stdout").await;
    assert_eq!(kept, format!("{}{}", &all[..5000], &all[all.len() - 5000..]));
    let cut: i64 =
        one(pool, &format!("select cut_bytes from watchbell.run_output where run_id = {run} and cut_bytes > 0")).await;
    assert_eq!(cut, i64::try_from(all.len()).unwrap() - 10_000);
    assert_eq!(printed_text(pool, run, "log").await, format!("\n[{cut} bytes were cut here]\n"));
    // it stands where the bytes are missing
    let whole = printed_text(pool, run, "%").await;
    assert!(whole[5000..].starts_with("\n["), "{}", &whole[4990..5050]);
    worker.stop().await;
}

/// The most memory that a process ever had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_gibibyte_changes_neither_the_state_nor_the_memory() {
    if !cfg!(target_os = "linux") {
        return crate::support::skip("memory is read from /proc");
    }
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = Program::worker(&database.url, &["--enable-shell-command", "--shell-programs", "sh"]);
    let warm = command(pool, &json!({"command": "echo warm; echo up >&2"}), &[]).await;
    until_status(pool, warm, "normal", SOON).await;
    let before = peak_kib(worker.pid());
    for line in ["head -c 1073741824 /dev/zero", "yes '\u{1f514} line' | head -c 1073741824 >&2; exit 7"] {
        let run = command(pool, &json!({"command": line}), &[]).await;
        let status = if line.contains("exit 7") { "failed" } else { "normal" };
        let row = until_status(pool, run, status, Duration::from_secs(240)).await;
        let query = format!(
            "select sum(cut_bytes)::bigint, sum(length(bytes)) filter (where cut_bytes is null) from watchbell.run_output where run_id = {run}"
        );
        let (cut, kept): (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_one(pool).await.unwrap();
        println!("{line}: {} s, {:?}", row.finished_at.unwrap() - row.started_at.unwrap(), row.error);
        assert_eq!((kept, cut), (256 << 10, (1 << 30) - (256 << 10)));
    }
    let after = peak_kib(worker.pid());
    println!("peak memory: {before} KiB before, {after} KiB after");
    assert!(after - before <= 16 << 10, "{before} KiB before, {after} KiB after");
}

#[tokio::test]
async fn output_that_cannot_be_written_does_not_hold_up_an_end() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "printer").handler("shell", anything()));
    // a person holds the table: output waits, the run does not
    let mut other = database.connect().await;
    sqlx::raw_sql("begin; lock table watchbell.run_output in access exclusive mode").execute(&mut other).await.unwrap();
    let run = command(pool, &json!({"command": "echo waits"}), &[]).await;
    until_status(pool, run, "normal", Duration::from_secs(5)).await;
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    // and is there once, not lost and not twice
    until_true(pool, &format!("(select true from watchbell.run_output where run_id = {run})"), SOON).await;
    worker.stop().await;
    assert_eq!(printed_text(pool, run, "%").await, "waits\n");

    // a table that refuses: the output is lost, the run is not
    let worker = start(hand(pool, "printer").handler("shell", anything()));
    sqlx::raw_sql("alter table watchbell.run_output add constraint none check (false) not valid")
        .execute(pool)
        .await
        .unwrap();
    let run = command(pool, &json!({"command": "echo lost; exit 5"}), &[]).await;
    let row = until_status(pool, run, "failed", SOON).await;
    assert_eq!(row.error.as_deref(), Some("exit code 5"));
    worker.stop().await;
}

#[tokio::test]
async fn what_is_printed_while_the_database_is_away_is_written_when_it_is_back() {
    let Some(mut server) = private_server().await else { return };
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_secs(5)).connect(server.url()).await.unwrap();
    install(server.url()).await;
    let place = Place::new();
    let worker = start(hand(&pool, "printer").handler("shell", anything()));
    // 200 numbered lines in 4 s, and a sign to the test when the first are out
    let line = format!(
        "for i in $(seq 200); do echo $i; [ $i = 20 ] && echo $$ > {}/pids; sleep 0.02; done",
        place.path().display()
    );
    let run = command(&pool, &json!({"command": line}), &[]).await;
    place.pids("pids", 1).await;
    server.halt(Halt::Immediate).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await; // it stays away while lines are printed
    server.resume().await.unwrap();
    let row = until_status(&pool, run, "normal", Duration::from_secs(60)).await;
    assert_eq!(row.attempt, 1);
    let all: String = (1..=200).map(|n| format!("{n}\n")).collect();
    worker.stop().await;
    assert_eq!(printed_text(&pool, run, "stdout").await, all, "every line, once");
    pool.close().await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_reader_gets_all_attempts_each_byte_once() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "printer").handler("shell", anything()));
    let at_once = ("retry", "'{\"strategy\": \"fixed\", \"base\": \"1ms\"}'");
    let line = json!({"command": "echo attempt $WATCHBELL_ATTEMPT; echo no >&2; exit $((3 - WATCHBELL_ATTEMPT))"});
    let run = command(pool, &line, &[("max_attempts", "3"), at_once]).await;
    let mut output = RunOutput::of(RunId(run)).stream(Stream::Stdout);
    let mut read = vec![];
    until("the run is over", SOON, async || {
        let over = watchbell::client::run(pool, RunId(run)).await.unwrap().status.is_terminal();
        for row in output.next(pool).await.unwrap() {
            read.extend(row.bytes);
        }
        over.then_some(())
    })
    .await;
    assert_eq!(String::from_utf8(read).unwrap(), "attempt 1\nattempt 2\nattempt 3\n");
    let second = RunOutput::of(RunId(run)).attempt(2).next(pool).await.unwrap();
    let second: Vec<u8> = second.into_iter().flat_map(|row| row.bytes).collect();
    assert_eq!(String::from_utf8(second).unwrap(), "attempt 2\nno\n");
    let said: Vec<String> = run_errors(pool, RunId(run)).await.unwrap().into_iter().map(|e| e.message).collect();
    assert_eq!(said, ["exit code 2: no", "exit code 1: no"]);
    worker.stop().await;
}

/// `watchbell runs ...` with these arguments.
fn runs(url: &str, arguments: &[&str]) -> std::process::Command {
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_watchbell"));
    program.env_clear().env("WATCHBELL_DATABASE_URL", url).arg("runs").args(arguments);
    program
}

#[tokio::test]
async fn runs_logs_follows_a_run_across_workers_to_its_end() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let line = "echo first $WATCHBELL_ATTEMPT; echo err >&2; \
                [ $WATCHBELL_ATTEMPT = 1 ] && sleep 600; printf '\\000\\377'; echo last";
    let run = command(pool, &json!({"command": line}), &[("max_attempts", "3")]).await;
    let id = run.to_string();
    let mut follow = runs(&database.url, &["logs", "-f", &id, "--stream", "stdout"]);
    let follow = follow.stdout(std::process::Stdio::piped()).spawn().unwrap();

    let options = ["--enable-shell-command", "--shell-programs", "sh"];
    let first = Program::worker(&database.url, &options);
    until_true(pool, &format!("(select true from watchbell.run_output where run_id = {run} limit 1)"), SOON).await;
    drop(first); // killed, and its command with it
    let second = Program::worker(&database.url, &options);
    until_status(pool, run, "normal", Duration::from_secs(60)).await;
    let followed = tokio::task::spawn_blocking(move || follow.wait_with_output().unwrap()).await.unwrap();
    assert!(followed.status.success());
    assert_eq!(followed.stdout, b"first 1\nfirst 2\n\0\xfflast\n");
    drop(second);

    // afterwards as well; as JSON, a line for each piece; what there is not is said
    let said = |arguments: &[&str]| runs(&database.url, arguments).output().unwrap();
    assert_eq!(said(&["logs", &id, "--attempt", "2"]).stdout.len(), "first 2\nerr\n12last\n".len());
    let lines = String::from_utf8(said(&["logs", &id, "--json"]).stdout).unwrap();
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.iter().any(|o| o["stream"] == "stderr" && o["text"] == "err\n" && o["is_utf8"] == true), "{lines}");
    assert!(objects.iter().any(|o| o["is_utf8"] == false), "{lines}");
    assert_eq!(said(&["logs", "987654"]).status.code(), Some(3));
    let shown: Value = serde_json::from_slice(&said(&["show", &id]).stdout).unwrap();
    assert!(shown["output_end"].as_array().unwrap().contains(&json!("\0\u{fffd}last")), "{shown}");
    assert_eq!((&shown["errors"][0]["attempt"], &shown["errors"].as_array().unwrap().len()), (&json!(1), &1));
}

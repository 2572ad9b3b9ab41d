//! How commands end that must: all of their processes, and nothing that they printed is lost.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use watchbell::handler::shell::Shell;

use crate::support::Database;
use crate::support::ask::{errors, until_status};
use crate::support::commands::{Place, Program, anything, command, is_alive, printed_text, until_gone};
use crate::support::crew::{config, hand, hand_on_short_lease, start};
use crate::support::wait::until_true;

const SOON: Duration = Duration::from_secs(30);

/// A command that writes down its processes: itself, a child, a grandchild that left the group and whose parent
/// is gone, and one that left it with an empty environment.
fn family(place: &Place, trap: &str) -> serde_json::Value {
    let line = format!(
        "{trap} cd {}; echo $$ >> pids; echo out; echo err >&2; \
         sh -c 'echo $$ >> pids; exec sleep 600' & \
         setsid sh -c 'sh -c \"echo \\$\\$ >> pids; exec sleep 600\" & exit' ; \
         env -i setsid sh -c 'echo $$ >> {}/pids; exec sleep 600' & \
         while :; do sleep 0.05; done",
        place.path().display(),
        place.path().display(),
    );
    json!({"command": line})
}

const FAMILY: usize = 4;

#[tokio::test]
async fn a_timeout_ends_every_process_and_keeps_what_was_printed() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", anything()));
    let run = command(pool, &family(&place, ""), &[("timeout", "'1 s'")]).await;
    let pids = place.pids("pids", FAMILY).await;
    let row = until_status(pool, run, "failed", SOON).await;
    // by the time the run is over, so are they
    assert!(!pids.iter().any(|&pid| is_alive(pid)), "{pids:?}");
    assert_eq!(row.error.as_deref(), Some("timed out: stopped by SIGTERM"));
    assert_eq!(errors(pool, run).await, [(1, "timeout".to_owned(), "timed out: stopped by SIGTERM".to_owned())]);
    assert_eq!(printed_text(pool, run, "stdout").await, "out\n");
    assert_eq!(printed_text(pool, run, "stderr").await, "err\n");
    worker.stop().await;
}

#[tokio::test]
async fn a_cancelled_command_that_ignores_sigterm_is_killed_within_the_grace() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", anything()));
    let run = command(pool, &family(&place, "trap 'echo heard' TERM;"), &[]).await;
    let pids = place.pids("pids", FAMILY).await;
    until_true(pool, &format!("(select count(*) >= 2 from watchbell.run_output where run_id = {run})"), SOON).await;
    sqlx::query("select watchbell.cancel($1, 'enough')").bind(run).execute(pool).await.unwrap();
    let row = until_status(pool, run, "cancelled", SOON).await;
    let said = row.error.as_deref().unwrap_or_default();
    let login: String = sqlx::query_scalar("select session_user::text").fetch_one(pool).await.unwrap();
    assert_eq!(said, format!("cancelled by {login}: enough"));
    until_gone(&pids, Duration::from_secs(1)).await;
    // what it said after SIGTERM is kept too
    assert_eq!(printed_text(pool, run, "stdout").await, "out\nheard\n");
    worker.stop().await;
}

#[tokio::test]
async fn a_command_may_end_in_order_after_sigterm() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let mut config = config("shell");
    config.grace = Duration::from_secs(10);
    let worker = start(hand(pool, "shell").config(config).handler("shell", anything()));
    let line = format!(
        "trap 'sleep 0.3; echo done; exit 0' TERM; echo $$ > {}/pids; while :; do sleep 0.05; done",
        place.path().display()
    );
    let run = command(pool, &json!({"command": line}), &[("timeout", "'500 ms'")]).await;
    place.pids("pids", 1).await;
    // an exit code of 0 after SIGTERM is no success: the work was broken off
    let row = until_status(pool, run, "failed", SOON).await;
    assert_eq!(row.error.as_deref(), Some("timed out: stopped by SIGTERM"));
    assert_eq!(printed_text(pool, run, "stdout").await, "done\n");
    worker.stop().await;
}

#[tokio::test]
async fn a_shutdown_ends_commands_and_gives_their_runs_back() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let options = [
        "--enable-shell",
        "--enable-shell-command",
        "--shell-programs",
        "any",
        "--drain-timeout",
        "1s",
        "--grace",
        "2s",
    ];
    let mut worker = Program::worker(&database.url, &options);
    let run = command(pool, &family(&place, "trap '' TERM;"), &[("max_attempts", "3")]).await;
    let pids = place.pids("pids", FAMILY).await;
    worker.send(Signal::SIGTERM);
    let row = until_status(pool, run, "pending", SOON).await;
    assert_eq!(row.attempt, 1);
    until_gone(&pids, Duration::from_secs(5)).await;
    crate::support::wait::until("the worker ends", SOON, async || worker.has_ended().then_some(())).await;
    assert_eq!(printed_text(pool, run, "stdout").await, "out\n");
}

#[tokio::test]
async fn a_forced_stop_ends_commands_at_once() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", anything()));
    let run = command(pool, &family(&place, "trap '' TERM;"), &[("max_attempts", "3")]).await;
    let pids = place.pids("pids", FAMILY).await;
    worker.shut_down();
    worker.force();
    until_gone(&pids, Duration::from_secs(5)).await;
    worker.ended().await.unwrap();
    until_status(pool, run, "pending", SOON).await;
    assert_eq!(printed_text(pool, run, "stdout").await, "out\n");
}

#[tokio::test]
async fn a_lost_lease_ends_commands_before_others_may_start_them() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand_on_short_lease(pool, "shell").handler("shell", anything()));
    command(pool, &family(&place, "trap '' TERM;"), &[("max_attempts", "5")]).await;
    let pids = place.pids("pids", FAMILY).await;
    // somebody declares the worker dead: its next heartbeat tells it
    sqlx::query("update watchbell.workers set state = 'dead', ended_at = now() where state = 'running'")
        .execute(pool)
        .await
        .unwrap();
    let took = until_gone(&pids, SOON).await;
    // a heartbeat each second, and a fifth of the lease of 2 s
    assert!(took < Duration::from_secs(4), "{took:?}");
    worker.force();
    worker.stop().await;
}

#[tokio::test]
async fn the_command_of_a_killed_worker_is_killed_with_it() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let options = ["--enable-shell-command", "--shell-programs", "sh"];
    let worker = Program::worker(&database.url, &options);
    command(pool, &family(&place, "trap '' TERM;"), &[]).await;
    let pids = place.pids("pids", FAMILY).await;
    worker.send(Signal::SIGKILL);
    let took = until_gone(&pids, SOON).await;
    println!("gone after {took:?}");
    assert!(took < Duration::from_secs(2), "sooner than another worker takes the run over: {took:?}");
}

#[tokio::test]
async fn the_command_of_a_frozen_worker_ends_with_its_lease() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let options = ["--enable-shell-command", "--shell-programs", "sh", "--lease", "3s"];
    let worker = Program::worker(&database.url, &options);
    let run = command(pool, &family(&place, "trap '' TERM;"), &[]).await;
    let pids = place.pids("pids", FAMILY).await;
    // beyond a lease, while the worker is well: heartbeats reach the guardian
    let well = "(select lease_until > now() and now() > started_at + interval '6 s' from watchbell.workers)";
    until_true(pool, well, SOON).await;
    let row = crate::support::ask::row(pool, run).await;
    assert!(pids.iter().all(|&pid| is_alive(pid)), "{row:?}");
    worker.send(Signal::SIGSTOP);
    let took = until_gone(&pids, SOON).await;
    println!("gone after {took:?}");
    let others_may: bool =
        sqlx::query_scalar("select lease_until < now() from watchbell.workers").fetch_one(pool).await.unwrap();
    assert!(took < Duration::from_secs(4) && !others_may, "{took:?}");
    worker.send(Signal::SIGCONT);
}

#[tokio::test]
async fn what_a_command_leaves_behind_has_a_second_to_end() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", anything()));
    let line = format!(
        "cd {}; (sleep 0.2; echo late) & setsid sh -c 'echo $$ >> pids; exec sleep 600' & \
         while ! [ -s pids ]; do sleep 0.01; done; echo early",
        place.path().display()
    );
    let run = command(pool, &json!({"command": line}), &[]).await;
    until_status(pool, run, "normal", SOON).await;
    let pids = place.pids("pids", 1).await;
    assert!(!is_alive(pids[0]));
    assert_eq!(printed_text(pool, run, "stdout").await, "early\nlate\n");
    let remark = "[processes that the command left behind were killed]\n";
    assert_eq!(printed_text(pool, run, "log").await, remark);
    worker.stop().await;
}

#[tokio::test]
async fn what_is_left_behind_is_asked_too_when_the_time_is_over() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", anything()));
    let line = "(trap 'echo asked; exit' TERM; while :; do sleep 0.05; done) & sleep 0.3";
    let run = command(pool, &json!({"command": line}), &[("timeout", "'600 ms'")]).await;
    let over = format!("(select finished_at is not null from watchbell.runs where id = {run})");
    until_true(pool, &over, SOON).await;
    assert_eq!(printed_text(pool, run, "stdout").await, "asked\n");
    worker.stop().await;
}

#[tokio::test]
async fn a_command_whose_guardian_is_killed_is_killed_and_the_attempt_fails() {
    if !cfg!(target_os = "linux") {
        return crate::support::skip("only Linux kills a process with its parent");
    }
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", anything()));
    let line = format!("echo $$ > {}/pids; kill -9 $PPID; exec sleep 600", place.path().display());
    let run = command(pool, &json!({"command": line}), &[]).await;
    let row = until_status(pool, run, "failed", SOON).await;
    let said = "the process that guards the command was killed, and the command with it";
    assert_eq!(row.error.as_deref(), Some(said));
    until_gone(&place.pids("pids", 1).await, Duration::from_secs(5)).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_command_that_stands_still_can_be_ended() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", anything()));
    let run = command(pool, &json!({"command": "kill -STOP $$"}), &[("timeout", "'500 ms'")]).await;
    let row = until_status(pool, run, "failed", SOON).await;
    assert_eq!(row.error.as_deref(), Some("timed out: stopped by SIGTERM"));
    worker.stop().await;
}

#[tokio::test]
async fn many_commands_at_once_do_not_keep_each_other_alive() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", Shell::new().any_program().commands("sh")));
    let mut runs = vec![];
    for n in 0..20 {
        let line = format!("echo $$ >> {}/pids; echo {n}; exec sleep {}", place.path().display(), n % 2 * 600);
        runs.push(command(pool, &json!({"command": line}), &[]).await);
    }
    let pids = place.pids("pids", 20).await;
    // the short ones end while the long ones, started before and after them, go on
    for (n, &run) in runs.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        until_status(pool, run, "normal", SOON).await;
        assert_eq!(printed_text(pool, run, "stdout").await, format!("{n}\n"));
    }
    for &run in runs.iter().skip(1).step_by(2) {
        sqlx::query("select watchbell.cancel($1)").bind(run).execute(pool).await.unwrap();
    }
    for &run in runs.iter().skip(1).step_by(2) {
        until_status(pool, run, "cancelled", SOON).await;
    }
    assert!(!pids.iter().any(|&pid| is_alive(pid)), "{pids:?}");
    worker.stop().await;
}

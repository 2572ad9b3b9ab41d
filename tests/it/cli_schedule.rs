//! `watchbell schedule`: from its first row to its last, by the program alone.

use serde_json::Value;

use crate::cli::{Ended, done, execute, refused, run, shown};
use crate::support::Database;
use crate::support::ask;

/// A schedule as `show --json` tells it.
fn show(url: &str, name: &str) -> Value {
    serde_json::from_str(&done(url, &["schedule", "show", name, "--json"])).unwrap()
}

#[tokio::test]
async fn an_added_schedule_is_told_in_words_with_its_next_fire_times() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    execute(&database, "insert into watchbell.handlers (name) values ('report')").await;
    let Ended(code, stdout, stderr) = run(
        Some(url),
        &["schedule", "add", "nightly", "report", "--cron", "0 2 * * *", "--tz", "Europe/Paris", "--tag", "a b"],
    );
    assert_eq!((code, stderr), (0, format!("{}: schedule \"nightly\" is added\n", shown(url))));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "nightly  cron 0 2 * * *: at 02:00 every day, Europe/Paris");
    assert_eq!(lines.len(), 6, "five fire times: {stdout}");
    assert!(lines[1].starts_with("  next      20") && lines[1].ends_with(":00:00Z"), "{stdout}");

    let every = done(url, &["schedule", "add", "beat", "report", "--every", "1h30m", "--overlap", "skip"]);
    assert!(every.starts_with("beat  fixed_rate 1h30m: every 1h30m, counted from its last start\n"), "{every}");
    assert_eq!(every.lines().count(), 6);
    let delay = done(url, &["schedule", "add", "sync", "report", "--delay", "5m", "--timeout", "none", "-o", "name"]);
    assert_eq!(delay, "sync\n");
    done(url, &["schedule", "add", "once", "report", "--at", "2031-02-03T04:05:06Z", "--payload", r#"{"a": 1}"#]);
    assert_eq!(done(url, &["schedule", "next", "once"]), "2031-02-03T04:05:06Z\n");

    let nightly = show(url, "nightly");
    assert_eq!((&nightly["timezone"], &nightly["tags"][0]), (&"Europe/Paris".into(), &"a b".into()));
    assert_eq!((&nightly["run_at"], &nightly["paused_until"]), (&Value::Null, &Value::Null));
    assert_eq!((&show(url, "beat")["fixed_rate"], &show(url, "beat")["overlap"]), (&"1h30m".into(), &"skip".into()));
    assert_eq!(show(url, "sync")["timeout"], Value::Null);
    assert_eq!(show(url, "once")["payload"]["a"], 1);
    let yaml = done(url, &["schedule", "next", "once", "-o", "yaml"]);
    assert_eq!(yaml, "name: once\nnext:\n- \"2031-02-03T04:05:06Z\"\n");
    let yaml = done(url, &["schedule", "list", "-o", "yaml"]);
    assert_eq!(yaml.matches("\n  id: ").count(), 4, "{yaml}");
    assert!(yaml.contains("\n  payload:\n    a: 1\n") && yaml.contains("\n  tags: []\n"), "{yaml}");
    assert!(yaml.contains("\n  cron: 0 2 * * *\n") && yaml.contains("\n  timeout: null\n"), "{yaml}");

    // The names of the columns are understood too.
    done(url, &["schedule", "add", "by-columns", "--handler", "report", "--fixed-delay", "7m"]);
    let shown = show(url, "by-columns");
    assert_eq!((&shown["handler"], &shown["fixed_delay"]), (&"report".into(), &"7m".into()));
}

#[tokio::test]
async fn a_schedule_is_kept_alive_in_copies_until_it_is_edited() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    execute(&database, "insert into watchbell.handlers (name) values ('report')").await;
    done(url, &["schedule", "add", "daemon", "report", "--delay", "1s", "--keep-alive", "--copies", "3"]);
    let daemon = show(url, "daemon");
    assert_eq!((&daemon["keep_alive"], &daemon["copies"], &daemon["timeout"]), (&true.into(), &3.into(), &Value::Null));
    assert!(done(url, &["schedule", "show", "daemon"]).contains("  kept alive           3 at a time\n"));
    done(url, &["schedule", "edit", "daemon", "--keep-alive=false", "--unset", "copies"]);
    assert_eq!((&show(url, "daemon")["keep_alive"], &show(url, "daemon")["copies"]), (&false.into(), &1.into()));
    let (code, sentence) = refused(Some(url), &["schedule", "edit", "daemon", "--copies", "2"]);
    assert_eq!(code, 2);
    assert!(sentence.contains("copies 2 goes with keep_alive only\n"), "{sentence}");
}

#[tokio::test]
async fn a_schedule_that_cannot_be_is_refused_before_it_is_sent() {
    let add = |more: &[&str]| refused(None, &[&["schedule", "add", "x", "report"], more].concat());
    assert_eq!(
        add(&["--cron", "0 25 * * *"]),
        (
            2,
            "error: schedule \"x\": invalid cron expression \"0 25 * * *\": hour \"25\" is out of range 0-23"
                .to_owned()
        )
    );
    let (code, stderr) = add(&["--cron", "0 0 31 2 *"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("0 0 31 2 *"), "{stderr}");
    let (code, stderr) = add(&[]);
    assert_eq!(code, 2);
    assert!(stderr.starts_with("error: schedule \"x\": needs a time: --cron"), "{stderr}");
    assert_eq!(add(&["--cron", "@daily", "--every", "5m"]).0, 2);

    let database = Database::fresh().await;
    let url = Some(database.url.as_str());
    execute(&database, "insert into watchbell.handlers (name) values ('report')").await;
    // what only the database finds: its sentence and its hint
    let (code, stderr) = refused(url, &["schedule", "add", "x", "report", "--every", "10ms"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("error: schedule \"x\": fixed_rate 00:00:00.01 "), "{stderr}");
    done(&database.url, &["schedule", "add", "x", "report", "--every", "5m"]);
    assert_eq!(
        refused(url, &["schedule", "add", "x", "report", "--every", "5m"]),
        (4, "error: schedule \"x\" exists already; change it with: watchbell schedule edit x".to_owned())
    );
}

#[tokio::test]
async fn a_handler_that_nobody_registered_is_warned_of_with_the_nearest() {
    let database = Database::fresh().await;
    execute(&database, "insert into watchbell.handlers (name) values ('report'), ('mail')").await;
    let warning =
        "warning: no worker has ever registered handler \"reprot\", so it will wait; did you mean \"report\"?";
    let Ended(_, _, stderr) = run(Some(&database.url), &["schedule", "add", "x", "reprot", "--every", "5m"]);
    assert_eq!(stderr.matches("no worker has ever registered").count(), 1, "{stderr}");
    assert!(stderr.contains(warning), "{stderr}");
    let Ended(_, _, stderr) = run(Some(&database.url), &["enqueue", "reprot"]);
    assert!(stderr.contains(warning), "{stderr}");
}

#[tokio::test]
async fn an_edit_changes_only_what_is_given() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    let add = ["schedule", "add", "x", "report", "--cron", "0 2 * * *", "--overlap", "skip", "--timeout", "5m"];
    done(url, &add);
    let before = show(url, "x");
    done(url, &["schedule", "edit", "x", "--priority", "2"]);
    let after = show(url, "x");
    assert_eq!((&after["priority"], &after["version"]), (&2.into(), &2.into()));
    for column in ["cron", "overlap", "timeout", "queue", "payload", "handler", "effective_from"] {
        assert_eq!(before[column], after[column], "{column}");
    }
    // a time of another kind replaces the old one
    done(url, &["schedule", "edit", "x", "--every", "30s", "--unset", "timeout", "--unset", "overlap"]);
    let after = show(url, "x");
    assert_eq!((&after["kind"], &after["cron"]), (&"fixed_rate".into(), &Value::Null));
    assert_eq!((&after["timeout"], &after["overlap"], &after["priority"]), (&Value::Null, &"allow".into(), &2.into()));

    let Ended(code, _, stderr) = run(Some(url), &["schedule", "edit", "x", "--every", "30s"]);
    assert_eq!((code, stderr), (0, format!("{}: schedule \"x\" was like that already\n", shown(url))));
    done(url, &["schedule", "edit", "x", "--rename", "y"]);
    assert_eq!(done(url, &["schedule", "list", "-o", "name"]), "y\n");
    let refused = |arguments: &[&str]| refused(Some(url), arguments);
    let (code, stderr) = refused(&["schedule", "edit", "y", "--unset", "timeuot"]);
    assert_eq!(code, 2);
    assert_eq!(stderr, "error: column: \"timeuot\" is none of a schedule; did you mean \"timeout\"?");
    assert_eq!(refused(&["schedule", "edit", "y"]).0, 2);
    assert_eq!(refused(&["schedule", "edit", "y", "--unset", "every"]).0, 2);
}

#[tokio::test]
async fn an_unknown_schedule_is_3_with_the_nearest_name() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    done(url, &["schedule", "add", "nightly", "report", "--every", "5m"]);
    let verbs: &[&[&str]] = &[
        &["show", "nigthly"],
        &["next", "nigthly"],
        &["edit", "nigthly", "--queue", "q"],
        &["pause", "nigthly"],
        &["resume", "nigthly"],
        &["run-now", "nigthly"],
        &["skip", "nigthly"],
        &["delete", "nigthly", "--yes"],
    ];
    for verb in verbs {
        let (code, stderr) = refused(Some(url), &[&["schedule"], *verb].concat());
        assert_eq!(code, 3, "{verb:?}: {stderr}");
        assert!(
            stderr.starts_with("error: schedule \"nigthly\" does not exist; did you mean \"nightly\"?"),
            "{stderr}"
        );
    }
}

#[tokio::test]
async fn a_schedule_is_paused_skipped_run_and_deleted() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    done(url, &["schedule", "add", "x", "report", "--every", "1h"]);
    done(url, &["schedule", "add", "y", "report", "--every", "1h"]);
    // one unknown name leaves the others as they are
    assert_eq!(run(Some(url), &["schedule", "pause", "x", "zz"]).0, 3);
    assert_eq!(show(url, "x")["paused_at"], Value::Null);
    let paused = done(url, &["schedule", "pause", "x", "y", "--note", "the warehouse moves"]);
    assert_eq!(paused, "NAME\tRESULT\nx\tpaused\ny\tpaused\n");
    assert_eq!(show(url, "x")["pause_note"], "the warehouse moves");
    assert_eq!(show(url, "x")["last_change"]["what"], "pause");
    let text = done(url, &["schedule", "show", "x"]);
    assert!(text.contains(": the warehouse moves\n"), "{text}");
    assert_eq!(done(url, &["schedule", "next", "x"]), "");
    done(url, &["schedule", "resume", "x"]);

    // planned by a worker, as far as the row goes
    let plan = "update watchbell.schedules set status = 'normal', wake_at = '2031-02-03 04:00Z' where name = 'x'";
    execute(&database, plan).await;
    assert_eq!(done(url, &["schedule", "skip", "x"]), "2031-02-03T04:00:00Z\n");
    assert_eq!(done(url, &["schedule", "next", "x", "-n", "2"]), "2031-02-03T05:00:00Z\n2031-02-03T06:00:00Z\n");

    let id = done(url, &["schedule", "run-now", "x", "--payload", r#"{"only": "Lyon"}"#]);
    let row: Value = serde_json::from_str(&done(url, &["runs", "show", id.trim()])).unwrap();
    assert_eq!((&row["trigger"], &row["payload"]["only"]), (&"run_now".into(), &"Lyon".into()));
    let waited = run(Some(url), &["schedule", "run-now", "x", "--wait", "--wait-timeout", "0s"]);
    assert_eq!(waited.0, 124);

    let (code, stderr) = refused(Some(url), &["schedule", "delete", "x"]);
    assert_eq!(code, 2);
    assert!(
        stderr.starts_with("error: --yes: is missing, and there is no terminal to ask: this would delete x of "),
        "{stderr}"
    );
    done(url, &["schedule", "delete", "x", "--yes"]);
    assert_eq!(done(url, &["schedule", "list", "-o", "name"]), "y\n");
    assert_eq!(ask::one::<i64>(&database.pool, "select count(*) from watchbell.runs").await, 2, "its runs stay");
}

#[tokio::test]
async fn a_backfill_is_shown_before_it_is_made() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    done(url, &["schedule", "add", "hourly", "report", "--cron", "0 * * * *"]);
    let range = ["schedule", "backfill", "hourly", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T02:30:00Z"];
    let with = |more: &'static str| [&range[..], &[more]].concat();
    let times = "2026-01-01T00:00:00Z\n2026-01-01T01:00:00Z\n2026-01-01T02:00:00Z\n";
    assert_eq!(done(url, &with("--dry-run")), times);
    assert_eq!(refused(Some(url), &range).0, 2, "without --yes");
    assert_eq!(ask::one::<i64>(&database.pool, "select count(*) from watchbell.runs").await, 0);
    let Ended(code, stdout, stderr) = run(Some(url), &with("--yes"));
    assert_eq!((code, stdout.as_str()), (0, times));
    assert!(stderr.ends_with(": runs made: 3\n"), "{stderr}");
    let Ended(_, _, stderr) = run(Some(url), &with("--yes"));
    assert!(stderr.ends_with(": runs made: 0; 3 had one already\n"), "{stderr}");
}

#[tokio::test]
async fn the_list_tells_the_state_of_a_schedule_from_the_end_of_its_last_run() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    for name in ["a", "b", "c"] {
        done(url, &["schedule", "add", name, "report", "--delay", "1h"]);
    }
    execute(
        &database,
        "update watchbell.schedules set last_status = 'failed', consecutive_failures = 2, last_duration = '3 s', \
         last_finished_at = '2026-01-02 03:04:05Z'; \
         update watchbell.schedules set status = 'normal', wake_at = 'infinity' where name = 'a'; \
         update watchbell.schedules set paused_at = now() where name = 'b'; \
         update watchbell.schedules set status = 'done' where name = 'c'",
    )
    .await;
    let table = done(url, &["schedule", "list"]);
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let next: Vec<&str> = rows.iter().map(|row| row[3]).collect();
    assert_eq!(next, ["after its run", "paused", "done"]);
    for row in rows {
        assert_eq!(row[5..9], ["2026-01-02T03:04:05Z", "3s", "failed", "2"]);
    }
}

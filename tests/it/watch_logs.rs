//! The log tells what becomes of watched rows, in both modes, and never a line for each of thousands; what is wrong with a
//! watch is told once.

use serde_json::Value;

use crate::logs::Told;
use crate::support::Scene;
use crate::support::commands::Place;
use crate::support::wait::{until, until_true};
use crate::support::watched::{PATIENCE, hosts, watch};

const QUICK: &str = r#"{"strategy": "fixed", "base": "10ms", "jitter": false}"#;

/// How many rows these events tell of, and how many lines that took.
fn rows(told: &Told, message: &str) -> (u64, usize) {
    let said = told.said(message);
    (said.iter().map(|line| line["rows"].as_u64().unwrap_or(1)).sum(), said.len())
}

async fn until_told(told: &Told, message: &str, wanted: u64) -> usize {
    until(message, PATIENCE, async || Some(rows(told, message)).filter(|(rows, _)| *rows == wanted)).await.0.1
}

async fn shell(scene: &mut Scene, command: &str, more: (&str, &str)) {
    let payload = serde_json::json!({"argv": ["sh", "-c", command]}).to_string();
    let columns = format!("table_name, handler, payload, retry, {}", more.0);
    watch(scene, "hosts", &columns, &format!("'hosts', 'shell', '{payload}', '{QUICK}', {}", more.1)).await;
}

const SHELL: [&str; 3] = ["--enable-shell", "--shell-programs", "sh"];

#[tokio::test]
async fn a_leased_row_is_told_of_as_a_run_is_and_what_it_prints() {
    let mut scene = hosts(1).await;
    let place = Place::new();
    shell(&mut scene, "echo first line; exit 3", ("max_attempts", "2")).await;
    let told = Told::by(&place, "log");
    let worker = told.worker("info,watchbell::watch=debug", &scene.database.url, &SHELL);
    let failed = told.until_said("row failed").await;
    let again = told.said("row failed and is tried again").remove(0);
    assert_eq!((&again["level"], &again["target"]), (&"INFO".into(), &"watchbell::watch".into()));
    assert_eq!((&failed["level"], &failed["attempt"]), (&"ERROR".into(), &2.into()));
    for (line, attempt) in [(&again, 1), (&failed, 2)] {
        assert_eq!((&line["watch"], &line["step"], &line["key"]), (&"hosts".into(), &"pending".into(), &"1".into()));
        assert_eq!((&line["handler"], &line["attempt"]), (&"shell".into(), &attempt.into()));
        assert!(line["error"].as_str().unwrap().contains('3'), "{line}");
    }
    assert_eq!(again["again_in_ms"], 10);
    assert_eq!(told.said("row started").len(), 2);
    let printed = told.said("first line").remove(0);
    let span = printed["spans"].as_array().and_then(|spans| spans.last()).unwrap_or(&printed["span"]);
    assert_eq!((&span["name"], &span["watch"], &span["step"]), (&"row".into(), &"hosts".into(), &"pending".into()));
    assert_eq!((&span["key"], &span["attempt"]), (&"1".into(), &1.into()));
    drop(worker);
}

#[tokio::test]
async fn a_table_that_fails_as_a_whole_is_told_in_few_lines_in_both_modes() {
    for mode in ["transactional", "leased"] {
        let mut scene = hosts(250).await;
        let place = Place::new();
        if mode == "leased" {
            shell(&mut scene, "exit 1", ("max_attempts", "1")).await;
        } else {
            let payload = r#"{"statement": "insert into effects (host) select id / 0 from claimed"}"#;
            let columns = "table_name, handler, payload, max_attempts, batch_size";
            watch(&mut scene, "hosts", columns, &format!("'hosts', 'sql', '{payload}', 1, 1000")).await;
        }
        let told = Told::by(&place, "log");
        let worker = told.worker("info", &scene.database.url, &SHELL);
        until_true(&scene.database.pool, "not exists (select from hosts where status <> 'failed')", PATIENCE).await;
        let lines = until_told(&told, "row failed", 250).await;
        assert!(lines < 250, "{mode}: {lines} lines");
        if mode == "transactional" {
            assert_eq!(lines, 11, "ten rows and one line for the others");
        }
        let first: Value = told.said("row failed").remove(0);
        assert_eq!((&first["watch"], &first["level"]), (&"hosts".into(), &"ERROR".into()));
        assert!(first["key"].is_string() && first["worker"].is_i64(), "{first}");
        drop(worker);
    }
}

#[tokio::test]
async fn a_row_that_can_be_neither_moved_nor_given_up_is_told_as_an_error() {
    for mode in ["transactional", "leased"] {
        let mut scene = hosts(2).await;
        let place = Place::new();
        scene.psql("alter table hosts add check (id <> 1 or status not in ('normal', 'failed'))").await;
        if mode == "leased" {
            shell(&mut scene, "exit 1", ("max_attempts", "1")).await;
        } else {
            let payload = r#"{"statement": "insert into effects (host) select id / (id - 1) from claimed"}"#;
            let columns = "table_name, handler, payload, max_attempts";
            watch(&mut scene, "hosts", columns, &format!("'hosts', 'sql', '{payload}', 1")).await;
        }
        let told = Told::by(&place, "log");
        let worker = told.worker("info", &scene.database.url, &SHELL);
        let refused = told.until_said("row refused by its table").await;
        assert_eq!((&refused["level"], &refused["key"]), (&"ERROR".into(), &"1".into()), "{mode}");
        assert!(refused["error"].as_str().unwrap().contains("check constraint"), "{mode}: {refused}");
        until_true(&scene.database.pool, "(select status from hosts where id = 2) <> 'pending'", PATIENCE).await;
        drop(worker);
    }
}

#[tokio::test]
async fn a_row_of_a_dead_worker_is_told_as_taken_back() {
    let mut scene = hosts(1).await;
    let place = Place::new();
    shell(&mut scene, "sleep 60", ("via_state", "'busy'")).await;
    let (dead, judge) = (Told::by(&place, "dead"), Told::by(&place, "judge"));
    let victim = dead.worker("info", &scene.database.url, &SHELL);
    until_true(&scene.database.pool, "exists (select from hosts where status = 'busy')", PATIENCE).await;
    let other = judge.worker("info", &scene.database.url, &SHELL);
    judge.until_said("worker started").await;
    drop(victim); // as by kill -9
    let back = judge.until_said("row taken back").await;
    assert_eq!((&back["level"], &back["key"], &back["kind"]), (&"WARN".into(), &"1".into(), &"crashed".into()));
    drop(other);
}

#[tokio::test]
async fn a_row_that_its_owner_moved_meanwhile_is_told_with_the_fields_of_every_row() {
    let mut scene = hosts(1).await;
    let place = Place::new();
    let go = place.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    shell(&mut scene, &wait, ("via_state", "'busy'")).await;
    let told = Told::by(&place, "log");
    let worker = told.worker("info", &scene.database.url, &SHELL);
    until_true(&scene.database.pool, "exists (select from hosts where status = 'busy')", PATIENCE).await;
    scene.psql("update hosts set status = 'retired'").await;
    std::fs::write(&go, "").unwrap();
    let left = told.until_said("row moved or deleted by somebody else, and left so").await;
    assert_eq!((&left["level"], &left["target"]), (&"INFO".into(), &"watchbell::watch".into()));
    assert_eq!((&left["watch"], &left["step"], &left["key"]), (&"hosts".into(), &"pending".into(), &"1".into()));
    assert!(left["attempt"] == 1 && left["worker"].is_i64(), "{left}");
    drop(worker);
}

#[tokio::test]
async fn a_filter_that_fails_is_told_once_and_when_it_works_again() {
    for mode in ["transactional", "leased"] {
        let mut scene = hosts(3).await;
        let place = Place::new();
        let (handler, payload) = match mode {
            "leased" => ("shell", r#"{"argv": ["sh", "-c", "true"]}"#),
            _ => ("sql", r#"{"statement": "insert into effects (host) select id from claimed"}"#),
        };
        let values = format!("'hosts', '{handler}', '{payload}', '10 / (id - 1) > 0'");
        watch(&mut scene, "hosts", "table_name, handler, payload, filter", &values).await;
        let told = Told::by(&place, "log");
        let worker = told.worker("info", &scene.database.url, &SHELL);
        let said = told.until_said("rows could not be worked; trying again").await;
        assert_eq!(
            (&said["level"], &said["watch"], &said["step"]),
            (&"WARN".into(), &"hosts".into(), &"pending".into())
        );
        assert!(said["error"].as_str().unwrap().contains("division by zero") && said["worker"].is_i64(), "{said}");

        // its steps begin anew with each plan
        let planned = "select planned_at::text from watchbell.watches where planned_at is not null";
        let first: String = scene.value(planned).await;
        until_true(&scene.database.pool, &format!("({planned}) <> '{first}'"), PATIENCE).await;
        let second: String = scene.value(planned).await;
        until_true(&scene.database.pool, &format!("({planned}) <> '{second}'"), PATIENCE).await;
        assert_eq!(told.said("rows could not be worked; trying again").len(), 1, "{mode}");
        assert_eq!(told.said("rows can be worked again").len(), 0, "{mode}");

        scene.psql("update watchbell.watches set filter = 'id > 0'").await;
        until_true(&scene.database.pool, "not exists (select from hosts where status <> 'normal')", PATIENCE).await;
        let over = told.until_said("rows can be worked again").await;
        assert_eq!(
            (&over["level"], &over["watch"], &over["step"]),
            (&"INFO".into(), &"hosts".into(), &"pending".into())
        );
        assert_eq!(told.said("rows could not be worked; trying again").len(), 1, "{mode}");
        drop(worker);
    }
}

#[tokio::test]
async fn a_table_that_somebody_holds_is_told_once_by_the_name_of_its_watch() {
    let mut scene = hosts(1).await;
    let place = Place::new();
    let payload = r#"{"statement": "insert into effects (host) select id from claimed"}"#;
    watch(&mut scene, "hosts", "table_name, handler, payload", &format!("'hosts', 'sql', '{payload}'")).await;
    let mut person = scene.database.pool.begin().await.unwrap();
    sqlx::query("lock table hosts in access exclusive mode").execute(&mut *person).await.unwrap();
    let told = Told::by(&place, "log");
    let worker = told.worker("info", &scene.database.url, &SHELL);
    let said = told.until_said("watch could not be planned; trying again").await;
    assert_eq!((&said["level"], &said["watch"]), (&"WARN".into(), &"hosts".into()), "{said}");
    let waits = "exists (select from pg_locks where not granted and relation = 'hosts'::regclass)";
    // twice more
    for _ in 0..2 {
        until_true(&scene.database.pool, &format!("not {waits}"), PATIENCE).await;
        until_true(&scene.database.pool, waits, PATIENCE).await;
    }
    assert_eq!(told.said("watch could not be planned; trying again").len(), 1);
    person.rollback().await.unwrap();
    let over = told.until_said("watch could be planned again").await;
    assert_eq!((&over["level"], &over["watch"]), (&"INFO".into(), &"hosts".into()), "{over}");
    until_true(&scene.database.pool, "not exists (select from hosts where status <> 'normal')", PATIENCE).await;
    drop(worker);
}

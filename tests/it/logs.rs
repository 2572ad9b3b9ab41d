//! The log of a worker tells each change of state once, in fields that programs read, and an idle one is quiet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::PgPool;

use crate::cli::{Ended, run};
use crate::support::commands::{Place, Program};
use crate::support::wait::{until, until_true};
use crate::support::{Database, ask};

const SOON: Duration = Duration::from_secs(20);

/// The file that a worker's log goes to.
pub struct Told(PathBuf);

impl Told {
    pub fn by(place: &Place, name: &str) -> Self {
        Self(place.path().join(name))
    }

    /// A worker with the handler `sql` that logs as JSON from this level on.
    pub fn worker(&self, level: &str, url: &str, options: &[&str]) -> Program {
        let variables = [("WATCHBELL_LOG_FORMAT", "json"), ("WATCHBELL_CONFIG", "none")];
        let options = [&["--enable-sql", "--log-level", level], options].concat();
        Program::worker_telling(&self.0, &variables, url, &options)
    }

    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
    }

    /// The events with this message.
    pub fn said(&self, message: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["message"] == message).collect()
    }

    pub async fn until_said(&self, message: &str) -> Value {
        until(message, SOON, async || self.said(message).pop()).await.0
    }

    /// Message and number of the events about each run.
    fn of_runs(&self) -> BTreeMap<i64, Vec<String>> {
        let mut runs: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for line in self.lines().iter().filter(|line| line["target"] == "watchbell::run") {
            let said = format!("{} {}", line["message"].as_str().unwrap(), line["attempt"]);
            runs.entry(line["run"].as_i64().unwrap()).or_default().push(said);
        }
        runs
    }
}

async fn sql(pool: &PgPool, statement: &str, more: &[(&str, &str)]) -> i64 {
    let payload = format!("'{}'", serde_json::json!({ "statement": statement }).to_string().replace('\'', "''"));
    ask::insert(pool, "sql", &[&[("payload", payload.as_str())], more].concat()).await
}

const QUICK: (&str, &str) = ("retry", "'{\"strategy\": \"fixed\", \"base\": \"10ms\", \"jitter\": false}'");

#[tokio::test]
async fn each_change_of_a_run_is_told_once_with_its_fields() {
    let database = Database::fresh().await;
    let (pool, place) = (&database.pool, Place::new());
    let told = Told::by(&place, "log");
    let worker = told.worker("debug", &database.url, &["--name", "one"]);
    let good = sql(pool, "select 1", &[]).await;
    let bad = sql(pool, "select 1/0", &[("max_attempts", "2"), QUICK, ("queue", "'slow'")]).await;
    let endless = sql(pool, "select pg_sleep(60)", &[("max_attempts", "1")]).await;
    ask::until_status(pool, bad, "failed", SOON).await;
    ask::until_status(pool, endless, "running", SOON).await;
    sqlx::query("select watchbell.cancel($1, 'enough')").bind(endless).execute(pool).await.unwrap();
    ask::until_status(pool, endless, "cancelled", SOON).await;
    ask::until_status(pool, good, "normal", SOON).await;
    told.until_said("run cancelled").await;
    told.until_said("run failed").await;
    told.until_said("run finished").await;

    let runs = told.of_runs();
    assert_eq!(runs[&good], ["run started 1", "run finished 1"]);
    assert_eq!(runs[&bad], ["run started 1", "run failed and is tried again 1", "run started 2", "run failed 2"]);
    assert_eq!(runs[&endless], ["run started 1", "run cancelled 1"]);
    let id: i32 = ask::one(pool, "select id from watchbell.workers").await;
    let failed = told.said("run failed").remove(0);
    assert_eq!(failed["level"], "ERROR");
    assert_eq!(
        (&failed["handler"], &failed["queue"], &failed["status"]),
        (&"sql".into(), &"slow".into(), &"failed".into())
    );
    assert_eq!((&failed["kind"], &failed["worker"]), (&"error".into(), &id.into()));
    assert!(failed["error"].as_str().unwrap().contains("division by zero"), "{failed}");
    assert!(failed["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{failed}");
    assert!(failed.get("again_in_ms").is_none() && failed.get("schedule").is_none(), "what is not there is not told");
    let again = told.said("run failed and is tried again").remove(0);
    assert_eq!(
        (&again["level"], &again["status"], &again["again_in_ms"]),
        (&"INFO".into(), &"pending".into(), &10.into())
    );
    drop(worker);
}

#[tokio::test]
async fn a_death_and_what_it_cost_is_told_by_the_one_who_mends_it() {
    let database = Database::fresh().await;
    let (pool, place) = (&database.pool, Place::new());
    let (dead, judge) = (Told::by(&place, "dead"), Told::by(&place, "judge"));
    let victim = dead.worker("debug", &database.url, &["--name", "victim"]);
    dead.until_said("worker started").await;
    let twice = sql(
        pool,
        "select pg_sleep(case when (select attempt from watchbell.runs_live limit 1) = 1 then 60 else 0 end)",
        &[],
    );
    let (twice, once) = (twice.await, sql(pool, "select pg_sleep(60)", &[("max_attempts", "1")]).await);
    for run in [twice, once] {
        ask::until_status(pool, run, "running", SOON).await;
    }
    let other = judge.worker("debug", &database.url, &["--name", "judge"]);
    judge.until_said("worker started").await;
    let id: i32 = ask::one(pool, "select id from watchbell.workers where name = 'victim'").await;
    drop(victim); // as by kill -9
    ask::until_status(pool, once, "failed", Duration::from_secs(40)).await;
    let died = judge.until_said("worker died").await;
    assert_eq!((&died["level"], &died["dead"], &died["name"]), (&"WARN".into(), &id.into(), &"victim".into()));
    let back = judge.until_said("run taken back").await;
    assert_eq!((&back["level"], &back["run"], &back["worker"]), (&"WARN".into(), &twice.into(), &id.into()));
    assert_eq!((&back["status"], &back["kind"], &back["attempt"]), (&"pending".into(), &"crashed".into(), &1.into()));
    let failed = judge.until_said("run failed").await;
    assert_eq!((&failed["level"], &failed["run"], &failed["kind"]), (&"ERROR".into(), &once.into(), &"crashed".into()));
    assert_eq!(judge.of_runs()[&once], ["run failed 1"]);
    drop(other);
}

#[tokio::test]
async fn what_becomes_of_schedules_is_told() {
    let database = Database::fresh().await;
    let (pool, place) = (&database.pool, Place::new());
    let told = Told::by(&place, "log");
    let schedule = |name: &str, columns: &str, values: &str| {
        format!(
            "insert into watchbell.schedules (name, handler, payload, {columns})
                 values ('{name}', 'sql', '{{\"statement\": \"select 1/0\"}}', {values})"
        )
    };
    for statement in [
        schedule("never", "cron", "'0 0 31 2 *'"),
        schedule("fails", "run_at, max_attempts, pause_after_failures", "now(), 1, 1"),
        schedule("missed", "run_at, start_deadline", "now() - interval '1 h', '1 min'"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("set client_min_messages = error; {statement}")))
            .execute(pool)
            .await
            .unwrap();
    }
    let worker = told.worker("debug", &database.url, &["--name", "one"]);
    let invalid = told.until_said("schedule invalid").await;
    assert_eq!((&invalid["level"], &invalid["schedule"]), (&"ERROR".into(), &"never".into()));
    let fired = told.until_said("schedule fired").await;
    assert_eq!((&fired["schedule"], &fired["disposition"]), (&"fails".into(), &"run".into()));
    let missed = told.until_said("schedule missed fire times").await;
    assert_eq!((&missed["level"], &missed["schedule"]), (&"INFO".into(), &"missed".into()));
    assert_eq!(missed["disposition"], "expired");
    let failed = told.until_said("run failed").await;
    assert_eq!(failed["schedule"], "fails");
    let paused = told.until_said("schedule paused by its failures").await;
    assert_eq!(
        (&paused["level"], &paused["schedule"], &paused["failures"]),
        (&"ERROR".into(), &"fails".into(), &1.into())
    );
    for message in
        ["schedule invalid", "schedule fired", "schedule missed fire times", "schedule paused by its failures"]
    {
        assert_eq!(told.said(message).len(), 1, "{message}");
    }
    drop(worker);
}

#[tokio::test]
async fn an_invalid_watch_is_told_once_by_its_name() {
    let database = Database::fresh().await;
    let (pool, place) = (&database.pool, Place::new());
    let told = [Told::by(&place, "a"), Told::by(&place, "b")];
    let workers = told.each_ref().map(|told| told.worker("info", &database.url, &[]));
    until_true(pool, "(select count(*) = 2 from watchbell.workers where state = 'running')", SOON).await;
    let watch = |name: &str, mode: &str| {
        let payload = r#"{"statement": "select 1"}"#;
        format!(
            "insert into watchbell.watches (name, table_name, from_state, handler, payload, mode, timeout) values ('{name}', 'hosts', '{name}', 'sql', '{payload}', '{mode}', '10 s')"
        )
    };
    let sql = async |text: String| sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(pool).await.unwrap();
    let quiet = "set client_min_messages = error; create table public.hosts (id int primary key, status text)";
    sql(format!("{quiet}; {}", watch("hosts", "transactional"))).await;
    until_true(pool, "exists (select from watchbell.watches where status = 'invalid')", SOON).await;
    for other in ["b", "c"] {
        sql(format!("{}; update watchbell.watches set wake_at = '-infinity'", watch(other, "leased"))).await;
        until_true(pool, "not exists (select from watchbell.watches where wake_at < now())", SOON).await;
    }
    until("it is told", SOON, async || told.iter().find_map(|told| told.said("watch invalid").pop())).await;
    for mut worker in workers {
        worker.send(Signal::SIGTERM);
        until("the process ends", SOON, async || worker.has_ended().then_some(())).await;
    }
    let events: Vec<Value> = told.iter().flat_map(|told| told.said("watch invalid")).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    let (level, watch, error) = (&events[0]["level"], &events[0]["watch"], &events[0]["error"]);
    let reason = "timeout: 10s is longer than the 5s of transactional mode; use mode auto or leased";
    assert_eq!((level, watch, error), (&"ERROR".into(), &"hosts".into(), &reason.into()));
}

#[tokio::test]
async fn at_info_a_healthy_worker_tells_its_start_its_drain_and_its_end_and_nothing_else() {
    let database = Database::fresh().await;
    let (pool, place) = (&database.pool, Place::new());
    let told = Told::by(&place, "log");
    let mut worker = told.worker("info", &database.url, &["--name", "one"]);
    let run = sql(pool, "select 1", &[]).await;
    ask::until_status(pool, run, "normal", SOON).await;
    // a few heartbeats, and a schedule that fires
    let beats = "insert into watchbell.schedules (name, handler, payload, fixed_rate, first_fire)
                 values ('beat', 'sql', '{\"statement\": \"select 1\"}', '1 s', 'at_once')";
    sqlx::raw_sql(beats).execute(pool).await.unwrap();
    until_true(pool, "(select fires_count from watchbell.schedules) > 2", SOON).await;
    worker.send(Signal::SIGTERM);
    until("the process ends", SOON, async || worker.has_ended().then_some(())).await;
    // the driver warns on a machine that is too busy
    let own = |line: &Value| line["target"].as_str().is_some_and(|target| target.starts_with("watchbell"));
    let lines: Vec<Value> = told.lines().into_iter().filter(own).collect();
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(messages, ["worker started", "worker draining", "worker stopped"]);
    let started = told.said("worker started").remove(0);
    assert_eq!((&started["name"], &started["slots"]), (&"one".into(), &100.into()));
}

#[tokio::test]
async fn a_database_that_is_gone_and_back_is_told_once_each() {
    let database = Database::fresh().await;
    let (pool, place) = (&database.pool, Place::new());
    let told = Told::by(&place, "log");
    let worker = told.worker("info", &database.url, &["--name", "one"]);
    told.until_said("worker started").await;
    until_true(pool, "exists (select from watchbell.workers where state = 'running')", SOON).await;
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
               where application_name = 'watchbell control' and datname = current_database()";
    sqlx::query(end).execute(pool).await.unwrap();
    let regained = told.until_said("database regained").await;
    assert!(regained["silent_ms"].is_u64() && regained["worker"].is_i64(), "{regained}");
    assert_eq!(told.said("database lost: a heartbeat failed; trying again").len(), 1);
    assert_eq!(told.said("database regained").len(), 1);
    drop(worker);
}

#[test]
fn migrating_twice_tells_nothing_of_what_is_there() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(Database::fresh());
    let Ended(code, _, stderr) = run(Some(&database.url), &["--log-level", "info", "migrate", "up"]);
    assert_eq!(code, 0);
    assert!(!stderr.contains("already exists"), "{stderr}");
}

#[test]
fn the_levels_and_targets_that_the_page_names_are_those_of_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let read = |file: &str| std::fs::read_to_string(root.join("src/worker").join(file)).unwrap();
    let (source, mut told) = (read("journal.rs") + &read("journal/rows.rs"), 0);
    let tells = |line: &&str| ["tell!(", "tell_fire!(", "tell_row!("].iter().any(|call| line.contains(call));
    for line in source.lines().filter(tells) {
        let inside = line.split(['(', ')']).find(|part| part.ends_with('"')).unwrap();
        let (level, message) = (inside.split(',').next().unwrap(), inside.rsplit(", ").next().unwrap());
        let row = page.lines().find(|row| row.starts_with(&format!("| `{}` |", message.trim_matches('"'))));
        let row = row.unwrap_or_else(|| panic!("docs/operations.md does not tell of {message}"));
        assert!(row.contains(&format!("| {} |", level.to_lowercase())), "{message} is {level}, not as in {row}");
        told += 1;
    }
    assert!(told >= 21, "{told} events");
}

//! What `/metrics` says is what the tables say.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::ask::one;
use crate::support::commands::Program;
use crate::support::pages::{Scrape, free_address};
use crate::support::wait::{until, until_true};
use crate::support::{Database, skip};

const SOON: Duration = Duration::from_secs(60);

/// Three replicas' scrapes: counters are added up.
struct Replicas<'a>(&'a [Scrape]);

impl Replicas<'_> {
    fn sum(&self, name: &str, labels: &str) -> i64 {
        self.0.iter().map(|scrape| scrape.sum(name, labels)).sum::<f64>() as i64
    }
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

async fn worker(database: &Database, more: &[&str]) -> (Program, String) {
    let address = free_address();
    let options = ["--demo-handlers", "--enable-sql", "--slots", "10", "--pool", "4", "--listen", &address];
    let worker = Program::quiet_worker(&database.url, &[&options, more].concat());
    let ready = async || {
        let (status, _) = crate::support::pages::get(&address, "/readyz", "*/*").await?;
        (status == 200).then_some(())
    };
    until("the worker is ready", SOON, ready).await;
    (worker, address)
}

/// 2,000 runs: a tenth fails at once, a tenth is tried twice in vain, a tenth fails at first. A schedule fires too.
async fn work(pool: &PgPool) {
    run(
        pool,
        "create table public.patience (seconds double precision);
         insert into public.patience values (100);
         insert into watchbell.runs (handler, payload, max_attempts, retry)
         select case when n % 10 < 2 then 'sql' when n % 10 = 2 then 'flaky' else 'beat' end,
                case when n % 10 < 2 then '{\"statement\": \"select 1 / 0\"}'::jsonb else '{}' end,
                case n % 10 when 0 then 1 when 1 then 2 else 3 end,
                '{\"strategy\": \"fixed\", \"base\": \"50ms\", \"jitter\": false}'
         from generate_series(1, 2000) n;
         insert into watchbell.schedules (name, fixed_rate, handler) values ('tick', '1 s', 'beat')",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_equal_the_tables_after_failures_retries_and_a_killed_replica() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let (_a, at_a) = worker(&database, &[]).await;
    let (_b, at_b) = worker(&database, &[]).await;
    let (victim, at_victim) = worker(&database, &["--labels", "victim=yes"]).await;
    work(pool).await;
    run(
        pool,
        "insert into watchbell.runs (handler, payload, target)
         select 'sql', '{\"statement\": \"select pg_sleep(seconds) from public.patience\"}', 'victim=yes'
         from generate_series(1, 3)",
    )
    .await;
    let held = "select count(*) = 3 from watchbell.runs_live where target is not null and status = 'running'";
    until_true(pool, held, SOON).await;
    until_true(pool, "select count(*) = 3 from watchbell.runs_live where schedule_id is null", SOON).await;
    run(
        pool,
        "select watchbell.pause('tick');
         update watchbell.runs_live set target = null;
         update public.patience set seconds = 0",
    )
    .await;
    until_true(pool, "select count(*) = 3 from watchbell.runs_live", SOON).await;
    // the database accepts an end a moment before it is counted
    let of_victim = "select count(*) from watchbell.runs_finished f join watchbell.workers w on w.id = f.claimed_by
                     where 'victim=yes' = any (w.labels)";
    let ended: i64 = one(pool, of_victim).await;
    let counted = async || {
        let scrape = Scrape::of(&at_victim).await?;
        (scrape.sum("watchbell_runs_finished_total", "") as i64 == ended).then_some(scrape)
    };
    let (last_of_victim, _) = until("the victim has counted its ends", SOON, counted).await;
    victim.send(Signal::SIGKILL);
    until_true(pool, "not exists (select from watchbell.runs_live)", SOON).await;

    // what nobody takes, and when it has been seen by both
    run(
        pool,
        "insert into watchbell.runs (handler, run_at, queue) select 'sql', now() + interval '1 day', 'later'
         from generate_series(1, 7);
         insert into watchbell.runs (handler) select 'nobody' from generate_series(1, 5)",
    )
    .await;
    let since: f64 = one(pool, "select extract(epoch from clock_timestamp())::double precision").await;
    let same = async || {
        let both = [Scrape::of(&at_a).await?, Scrape::of(&at_b).await?];
        let read: Vec<_> = both.iter().map(|s| s.value("watchbell_cluster_read_timestamp_seconds")).collect();
        (read[0] == read[1] && read[0]? > since).then_some(both)
    };
    let ([a, b], _) = until("both show what was read since", SOON, same).await;

    let replicas = [a.clone(), b, last_of_victim];
    let all = Replicas(&replicas);
    let table = async |query: &str| one::<i64>(pool, query).await;
    for status in ["normal", "failed", "cancelled"] {
        let query = format!("select count(*) from watchbell.runs_finished where status = '{status}'");
        let counted = all.sum("watchbell_runs_finished_total", &format!("status=\"{status}\""));
        assert_eq!(counted, table(&query).await, "{status}");
    }
    assert_eq!(table("select count(*) from watchbell.runs_finished where schedule_id is null").await, 2003);
    let attempts = table("select sum(attempt)::bigint from watchbell.runs_finished").await;
    assert_eq!(all.sum("watchbell_runs_started_total", ""), attempts);
    assert_eq!(all.sum("watchbell_run_lateness_seconds_count", ""), attempts);
    assert_eq!(all.sum("watchbell_run_duration_seconds_count", ""), attempts - 3, "the killed ones never returned");
    let scheduled = table("select count(*) from watchbell.runs_finished where trigger = 'schedule'").await;
    assert_eq!(all.sum("watchbell_runs_started_total", "trigger=\"schedule\""), scheduled);
    let fires = table("select count(*) from watchbell.fires where disposition = 'run'").await;
    assert_eq!(all.sum("watchbell_schedule_fires_total", "schedule=\"tick\",result=\"run\""), fires);
    let errors = "(select count(*) from watchbell.run_errors)";
    let failed = "(select count(*) from watchbell.runs_finished where status = 'failed')";
    assert_eq!(all.sum("watchbell_run_retries_total", ""), table(&format!("select {errors} - {failed}")).await);
    assert_eq!(
        (all.sum("watchbell_runs_recovered_total", ""), all.sum("watchbell_lease_expirations_total", "")),
        (3, 1)
    );
    let (printed, counted) = (
        table("select sum(length(bytes))::bigint from watchbell.run_output").await,
        all.sum("watchbell_log_bytes_total", ""),
    );
    assert!(counted <= printed && counted > printed / 2, "{counted} of {printed} bytes"); // the victim's last are lost
    println!("attempts {attempts}, of them by schedule {scheduled}; scrape of {} bytes", a.text.len());

    for (series, expected) in [
        ("watchbell_queue_runs{queue=\"later\",status=\"pending\"}", 7.0),
        ("watchbell_queue_runs{queue=\"default\",status=\"pending\"}", 5.0),
        ("watchbell_queue_runs{queue=\"default\",status=\"running\"}", 0.0),
        ("watchbell_unclaimable_runs{handler=\"nobody\"}", 5.0),
        ("watchbell_unclaimable_runs{handler=\"beat\"}", 0.0),
        ("watchbell_workers{state=\"running\"}", 2.0),
        ("watchbell_workers{state=\"dead\"}", 1.0),
        ("watchbell_schedule_paused{schedule=\"tick\"}", 1.0),
        ("watchbell_schedule_consecutive_failures{schedule=\"tick\"}", 0.0),
        ("watchbell_schedule_expected_interval_seconds{schedule=\"tick\"}", 1.0),
        ("watchbell_schema_version", f64::from(watchbell::migrate::VERSION)),
        ("watchbell_worker_slots", 10.0),
        ("watchbell_runs_running", 0.0),
    ] {
        assert_eq!(a.value(series), Some(expected), "{series} in\n{}", a.text);
    }
    lint(&a.text);
    everything_is_listed(&a);
    the_cluster_is_the_same(&replicas[0], &replicas[1]);
}

/// All replicas show the same values of the whole database.
fn the_cluster_is_the_same(a: &Scrape, b: &Scrape) {
    let mut compared = 0;
    for metric in watchbell::metrics::ALL.iter().filter(|m| m.scope == watchbell::metrics::Scope::Cluster) {
        for (series, value) in a.values.iter().filter(|(series, _)| series.split('{').next() == Some(metric.name)) {
            assert_eq!(b.value(series), Some(*value), "{series}");
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared} series of the cluster");
}

/// What is shown is in the list with these labels, with its help and kind.
fn everything_is_listed(scrape: &Scrape) {
    for series in scrape.values.keys() {
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        let is_of = |metric: &&watchbell::metrics::Metric| {
            name.strip_prefix(metric.name).is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        };
        let metric = watchbell::metrics::ALL.iter().find(is_of).unwrap_or_else(|| panic!("{name} is not in the list"));
        let names: Vec<_> =
            labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name).collect();
        let names: Vec<_> = names.into_iter().filter(|name| *name != "le").collect();
        assert_eq!(names, metric.labels, "{series}");
        assert!(scrape.text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{name} has no help");
    }
}

/// `promtool check metrics`, where it is installed.
fn lint(text: &str) {
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = command else { return skip("promtool is not installed (Debian's package prometheus)") };
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let told = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.status.success() && told.trim().is_empty(), "promtool: {told}");
}

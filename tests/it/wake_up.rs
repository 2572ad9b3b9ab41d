//! How soon a worker sees what there is to do, and how little it asks while there is nothing.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use crate::support::ask::{insert, one, row, until_status};
use crate::support::crew::{hand, start};
use crate::support::database::install;
use crate::support::private::options;
use crate::support::wait::until_true;
use crate::support::{Database, skip};

const SOON: Duration = Duration::from_secs(30);

/// A promise of about 1.2 s, on a machine that is busy with other tests.
const HINT_MAX: Duration = Duration::from_secs(4);

async fn nothing() {}

/// Waits until the one worker here sleeps deeply: producers have been told, and it is no longer warm.
async fn until_asleep(pool: &PgPool) {
    until_true(
        pool,
        "exists (select from watchbell.queues where sleepers_until > now()) \
         and not exists (select from pg_stat_activity where datname = current_database() \
                         and application_name = 'watchbell poll' \
                         and (state <> 'idle' or state_change > now() - interval '100 ms'))",
        SOON,
    )
    .await;
}

/// How long after it was due, or inserted, a run started.
async fn lag(pool: &PgPool, run: i64) -> Duration {
    let run = until_status(pool, run, "normal", SOON).await;
    (run.started_at.unwrap() - run.run_at.max(run.created_at)).to_std().unwrap_or_default()
}

#[tokio::test]
async fn an_insert_wakes_a_sleeping_worker() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "sleeper").handler("mail", nothing));
    let mut lags = Vec::new();
    for _ in 0..9 {
        until_asleep(pool).await;
        let run = insert(pool, "mail", &[]).await;
        lags.push(lag(pool, run).await);
    }
    lags.sort();
    println!("woken by NOTIFY: p50 {:?}, worst {:?}", lags[4], lags[8]);
    assert!(lags[4] < Duration::from_millis(200), "{lags:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_lost_wake_up_costs_about_a_second() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    sqlx::query("alter table watchbell.runs_live disable trigger runs_wake").execute(pool).await.unwrap();
    let worker = start(hand(pool, "sleeper").handler("mail", nothing));
    for _ in 0..2 {
        until_asleep(pool).await;
        let run = insert(pool, "mail", &[]).await;
        let lag = lag(pool, run).await;
        println!("seen by the heartbeat after {lag:?}");
        assert!(lag < HINT_MAX, "{lag:?}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_producer_that_holds_the_gate_keeps_no_one_elses_rows_waiting() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "sleeper").handler("mail", nothing));
    until_asleep(pool).await;
    // one transaction that has won every stripe and does not end
    let mut holder: PgConnection = database.connect().await;
    sqlx::raw_sql("begin; select pg_advisory_xact_lock(x'7763'::int, n) from generate_series(0, 7) n; insert into watchbell.runs (handler) values ('mail')")
        .execute(&mut holder)
        .await
        .unwrap();
    let run = insert(pool, "mail", &[]).await;
    let seen = lag(pool, run).await;
    println!("past a held gate after {seen:?}");
    assert!(seen < HINT_MAX, "{seen:?}");
    sqlx::raw_sql("commit").execute(&mut holder).await.unwrap();
    until_true(pool, "select count(*) = 2 from watchbell.runs where status = 'normal'", SOON).await;
    worker.stop().await;
}

#[tokio::test]
async fn due_times_are_met_without_any_wake_up() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker =
        start(hand(pool, "punctual").handler("mail", nothing).handler("again", |ctx: watchbell::Context| async move {
            let wait = Duration::from_millis(1300);
            if ctx.attempt() == 1 { Err(watchbell::retry_after("later", wait)) } else { Ok(()) }
        }));
    until_asleep(pool).await;
    let mut rounds = vec![];
    for number in 0..ROUNDS {
        rounds.push(round(pool, number).await);
    }
    // a busy machine may be late once; a worker that only polls is, for one kind or for all, every other time
    for (kind, what) in ["a run", "a run in 0.4 s", "a schedule", "a retry"].iter().enumerate() {
        let late = rounds.iter().filter(|late| late[kind] >= LATE_MS).count();
        assert!(late <= 1, "{what} was late {late} times; by ms, in each round: {rounds:?}");
    }
    worker.stop().await;
}

const ROUNDS: usize = 5;
const LATE_MS: i64 = 500;

/// By how many ms after they were due a run, a nearer one, a schedule's and a retry started.
async fn round(pool: &PgPool, number: usize) -> [i64; 4] {
    let schedule = format!("once-{number}");
    sqlx::query("insert into watchbell.schedules (name, run_at, handler) values ($1, now() + '1.6 s', 'mail')")
        .bind(&schedule)
        .execute(pool)
        .await
        .unwrap();
    let run = insert(pool, "mail", &[("run_at", "now() + '1.5 s'")]).await;
    let near = insert(pool, "mail", &[("run_at", "now() + '400 ms'")]).await;
    let retried = insert(pool, "again", &[]).await;
    let all = format!("select count(*) = {} from watchbell.runs where status = 'normal'", 4 * (number + 1));
    until_true(pool, &all, SOON).await;
    let of_schedule = format!("select id from watchbell.runs where schedule_name = '{schedule}'");
    let scheduled: i64 = one(pool, &of_schedule).await;
    let mut late = [0; 4];
    for (late, run) in late.iter_mut().zip([run, near, scheduled, retried]) {
        let run = row(pool, run).await;
        *late = (run.started_at.unwrap() - run.run_at).num_milliseconds();
        assert!(*late >= 0, "{} started before it was due", run.id);
    }
    println!("started after it was due, in ms (run, run in 0.4 s, schedule, retry): {late:?}");
    late
}

#[tokio::test]
async fn an_idle_worker_sends_about_one_statement_a_second() {
    let server = match watchbell::embedded::Server::start(
        options().setting("log_statement", "all").setting("log_line_prefix", "%a|"),
    )
    .await
    {
        Ok(server) => server,
        Err(e) => return skip(&e.to_string()),
    };
    install(server.url()).await;
    let pool = PgPool::connect(server.url()).await.unwrap();
    let worker = start(hand(&pool, "idle").handler("mail", nothing));
    until_asleep(&pool).await;
    let log = server.dir().unwrap().join("postgres.log");
    let sent = || -> Vec<String> {
        let text = std::fs::read_to_string(&log).unwrap();
        let of_worker = |line: &&str| line.starts_with("watchbell ") && line.contains("|LOG:  ");
        text.lines().filter(of_worker).map(str::to_owned).collect()
    };
    // a span of time is the thing measured here; one without the pass that prunes, once a minute
    let (mut span, mut took) = (vec![], Duration::ZERO);
    for _ in 0..3 {
        let (before, began) = (sent().len(), Instant::now());
        assert!(before > 3, "the log shows the worker's statements");
        tokio::time::sleep(Duration::from_secs(6)).await;
        (span, took) = (sent().split_off(before), began.elapsed());
        if !span.iter().any(|line| line.contains("watchbell:prune")) {
            break;
        }
    }
    let rate = span.len() as f64 / took.as_secs_f64();
    println!("idle: {rate:.2} statements a second");
    assert!(rate <= 2.0, "{rate}: {span:#?}");
    let sessions: i64 =
        one(&pool, "select count(*) from pg_stat_activity where application_name like 'watchbell %'").await;
    assert!(sessions <= 4, "{sessions}");
    worker.stop().await;
}

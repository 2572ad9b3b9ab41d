//! What application code can rely on when it talks to watchbell in its own transactions.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::json;
use sqlx::{PgPool, Row};
use watchbell::client::{self, Cancelled, Change, NewRun, NewSchedule, Runs, Schedules, insert_many};
use watchbell::db::{self, DatabaseUrl};
use watchbell::embedded::{Halt, Server};
use watchbell::schedule::{Misfire, Overlap};
use watchbell::{Error, RunId, Status, db::Session};

use crate::support::{Database, private_server};

async fn count(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from watchbell.runs").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_run_exists_only_if_its_transaction_commits() {
    let database = Database::fresh().await;
    let mut tx = database.pool.begin().await.unwrap();
    NewRun::new("mail").insert(&mut *tx).await.unwrap().unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(count(&database.pool).await, 0);

    let mut tx = database.pool.begin().await.unwrap();
    let id = NewRun::new("mail").insert(&mut *tx).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    assert_eq!(client::run(&database.pool, id).await.unwrap().handler, "mail");
}

#[tokio::test]
async fn every_option_of_a_run_arrives() {
    let database = Database::fresh().await;
    let due = "2031-02-03T04:05:06Z".parse().unwrap();
    let run = || {
        NewRun::new("mail")
            .payload(&json!({"to": "a@b.c", "text": "\"quoted\" \\ back"}))
            .unwrap()
            .queue("letters")
            .priority(3)
            .run_at(due)
            .max_attempts(7)
            .timeout(Duration::from_millis(90_500))
            .concurrency_key("post office")
            .target("zone = eu, disk=ssd")
            .retry(&json!({"strategy": "fixed", "base": "30s"}))
            .unwrap()
            .tags(["a \"b\"", "c\\d", ""])
    };
    let one = run().insert(&database.pool).await.unwrap().unwrap();
    assert_eq!(insert_many(&database.pool, [run()]).await.unwrap(), 1);
    let rows = Runs::new().fetch(&database.pool).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1].id, one);
    for row in &rows {
        let payload: serde_json::Value = serde_json::from_str(row.payload.get()).unwrap();
        assert_eq!(payload, json!({"to": "a@b.c", "text": "\"quoted\" \\ back"}));
        assert_eq!((row.queue.as_str(), row.priority, row.run_at, row.max_attempts), ("letters", 3, due, 7));
        assert_eq!(row.concurrency_key.as_deref(), Some("post office"));
        assert_eq!(row.target.as_deref(), Some("zone=eu,disk=ssd"));
        assert_eq!(row.tags, ["a \"b\"", "c\\d", ""]);
        assert_eq!((row.status, row.attempt, row.trigger.as_str()), (Status::Pending, 0, "enqueue"));
    }
    let timeouts: Vec<bool> =
        sqlx::query_scalar("select timeout = '90.5 s' and retry->>'base' = '30s' from watchbell.runs")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    assert_eq!(timeouts, [true, true]);
    let shared: (i64, i64) = sqlx::query_as(
        "select (select count(*) from watchbell.queues where name = 'letters'), \
                (select count(*) from watchbell.limits where key = 'post office')",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(shared, (1, 1));
}

#[tokio::test]
async fn what_is_not_said_is_the_columns_default_in_bulk_too() {
    let database = Database::fresh().await;
    NewRun::new("mail").insert(&database.pool).await.unwrap();
    insert_many(&database.pool, [NewRun::new("mail")]).await.unwrap();
    sqlx::query("insert into watchbell.runs (handler) values ('mail')").execute(&database.pool).await.unwrap();
    let kinds: i64 = sqlx::query_scalar(
        "select count(distinct (queue, priority, max_attempts, payload, timeout, retry, unique_key, concurrency_key, \
                                target, status, trigger, created_by, run_at <= now(), coalesce(tags, '{}'))) \
         from watchbell.runs",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(kinds, 1);
    let none = NewRun::new("mail").timeout(None);
    none.insert(&database.pool).await.unwrap();
    insert_many(&database.pool, [none]).await.unwrap();
    let unlimited: i64 = sqlx::query_scalar("select count(*) from watchbell.runs where timeout is null")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(unlimited, 2);
}

#[tokio::test]
async fn a_delay_counts_by_the_clock_of_the_database() {
    let database = Database::fresh().await;
    let run = NewRun::new("mail").delay(Duration::from_secs(90));
    run.insert(&database.pool).await.unwrap();
    insert_many(&database.pool, [run, NewRun::new("mail")]).await.unwrap();
    let waits: Vec<f64> =
        sqlx::query_scalar("select extract(epoch from run_at - created_at)::float8 from watchbell.runs order by id")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    assert_eq!(waits, [90.0, 90.0, 0.0]);
}

#[tokio::test]
async fn ten_thousand_runs_are_one_statement() {
    let database = Database::fresh().await;
    let runs = (0..10_000).map(|i| NewRun::new("mail").payload(&json!({"i": i})).unwrap());
    let mut tx = database.pool.begin().await.unwrap();
    assert_eq!(insert_many(&mut *tx, runs).await.unwrap(), 10_000);
    tx.commit().await.unwrap();
    assert_eq!(count(&database.pool).await, 10_000);
    assert_eq!(insert_many(&database.pool, []).await.unwrap(), 0);
}

#[tokio::test]
async fn an_open_unique_key_inserts_nothing() {
    let database = Database::fresh().await;
    let run = NewRun::new("mail").unique_key("invoice 7");
    let first = run.insert(&database.pool).await.unwrap().unwrap();
    assert_eq!(run.insert(&database.pool).await.unwrap(), None);
    assert_eq!(insert_many(&database.pool, [run.clone(), run.clone(), NewRun::new("mail")]).await.unwrap(), 1);
    assert_eq!(client::cancel(&database.pool, first, None).await.unwrap(), Cancelled::Waiting);
    assert!(run.insert(&database.pool).await.unwrap().is_some());
}

#[tokio::test]
async fn a_bad_run_is_refused_in_the_words_of_the_database() {
    let database = Database::fresh().await;
    let long = "k".repeat(257);
    let cases = [
        (NewRun::new("mail").priority(12), "update x set priority = 12"),
        (NewRun::new("mail").max_attempts(0), "max_attempts = 0"),
        (NewRun::new("mail").queue("no spaces"), "queue = 'no spaces'"),
        (NewRun::new("mail").unique_key(""), "unique_key = ''"),
        (NewRun::new("mail").concurrency_key(long.as_str()), "concurrency_key = long"),
        (NewRun::new("mail").target("eu"), "target = 'eu'"),
        (NewRun::new(""), "handler = ''"),
    ];
    for (run, _) in &cases {
        let ours = run.insert(&database.pool).await.unwrap_err();
        assert!(matches!(ours, Error::Invalid { .. }), "{ours:?}");
        let bulk = insert_many(&database.pool, [NewRun::new("mail"), run.clone()]).await.unwrap_err();
        assert_eq!(ours.to_string(), bulk.to_string());
    }
    assert_eq!(count(&database.pool).await, 0);
    let theirs = |column: &'static str, value: &'static str| {
        let statement = format!("insert into watchbell.runs (handler, {column}) values ('mail', {value})");
        let pool = database.pool.clone();
        async move {
            match sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await {
                Err(sqlx::Error::Database(e)) => e.message().to_owned(),
                other => panic!("{other:?}"),
            }
        }
    };
    let ours = |i: usize| cases[i].0.clone();
    for (i, column, value) in [
        (0, "priority", "12"),
        (1, "max_attempts", "0"),
        (2, "queue", "'no spaces'"),
        (3, "unique_key", "''"),
        (4, "concurrency_key", "repeat('k', 257)"),
        (5, "target", "'eu'"),
    ] {
        let sentence = ours(i).insert(&database.pool).await.unwrap_err().to_string();
        assert_eq!(sentence, theirs(column, value).await);
    }
    let payload = NewRun::new("mail").payload(&[1]).unwrap_err().to_string();
    assert_eq!(payload, "run for handler \"mail\": payload must be a JSON object (got array)");
    assert_eq!(payload, theirs("payload", "'[1]'").await);
    let broken = NewRun::new("mail").payload_json("{\"a\":").unwrap_err().to_string();
    assert!(broken.starts_with("run for handler \"mail\": payload is not valid JSON: EOF"), "{broken}");
}

#[tokio::test]
async fn pages_of_runs_neither_repeat_nor_miss_one() {
    let database = Database::fresh().await;
    let runs = (0..25).map(|i| NewRun::new(if i % 5 == 0 { "rare" } else { "mail" }).queue("letters"));
    insert_many(&database.pool, runs).await.unwrap();
    let all = Runs::new().fetch(&database.pool).await.unwrap();
    for row in &all[20..] {
        client::cancel(&database.pool, row.id, Some("not needed")).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut page = Runs::new().queue("letters").limit(10);
    loop {
        let rows = page.fetch(&database.pool).await.unwrap();
        let Some(last) = rows.last() else { break };
        page = page.before(last.id);
        seen.extend(rows.iter().map(|row| row.id));
    }
    assert_eq!(seen, all.iter().map(|row| row.id).collect::<Vec<_>>());

    let fetch = async |runs: Runs| runs.fetch(&database.pool).await.unwrap();
    assert_eq!(fetch(Runs::new().handler("rare")).await.len(), 5);
    assert_eq!(fetch(Runs::new().status(Status::Pending)).await.len(), 20);
    let cancelled = fetch(Runs::new().status(Status::Cancelled)).await;
    assert_eq!(cancelled.len(), 5);
    assert!(cancelled[0].error.as_deref().unwrap().ends_with(": not needed"), "{:?}", cancelled[0].error);
    assert_eq!(fetch(Runs::new().schedule("none")).await.len(), 0);
    let wrong = Runs::new().limit(0).fetch(&database.pool).await.unwrap_err().to_string();
    assert_eq!(wrong, "limit: 0 is out of range 1-1000");
}

#[tokio::test]
async fn cancelling_says_what_became_of_the_run() {
    let database = Database::fresh().await;
    let waiting = NewRun::new("mail").insert(&database.pool).await.unwrap().unwrap();
    assert_eq!(client::cancel(&database.pool, waiting, None).await.unwrap(), Cancelled::Waiting);
    assert_eq!(client::cancel(&database.pool, waiting, None).await.unwrap(), Cancelled::Finished);
    let unknown = client::cancel(&database.pool, RunId(987_654), None).await.unwrap_err();
    assert!(matches!(unknown, Error::NotFound { .. }));
    assert_eq!(unknown.to_string(), "run \"987654\" does not exist; list runs with: watchbell runs list");
    assert!(matches!(client::run(&database.pool, RunId(987_654)).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn an_unchanged_schedule_is_declared_without_effect() {
    let database = Database::fresh().await;
    let declare = |cron: &str| {
        NewSchedule::cron("nightly", cron, "report")
            .payload(&json!({"a": 1}))
            .unwrap()
            .misfire(Misfire::CatchUp { window: TimeDelta::hours(6), limit: 5 })
            .overlap(Overlap::QueueOne)
            .tags(["x"])
    };
    assert_eq!(declare("0 2 * * *").upsert(&database.pool).await.unwrap(), Change::Inserted);
    // As a worker leaves it.
    sqlx::query("update watchbell.schedules set status = 'normal', wake_at = '2031-01-01 02:00Z'")
        .execute(&database.pool)
        .await
        .unwrap();
    let state = async || {
        sqlx::query("select version, status, next_fire_at::text, xmin::text, payload::text from watchbell.schedules")
            .fetch_one(&database.pool)
            .await
            .map(|row| {
                (
                    row.get::<i64, _>(0),
                    row.get::<String, _>(1),
                    row.get::<Option<String>, _>(2),
                    row.get::<String, _>(3),
                )
            })
            .unwrap()
    };
    let planned = state().await;
    assert_eq!(declare("0 2 * * *").upsert(&database.pool).await.unwrap(), Change::Unchanged);
    assert_eq!(state().await, planned);

    // A payload alone does not plan it anew.
    let other = declare("0 2 * * *").payload(&json!({"a": 2})).unwrap();
    assert_eq!(other.upsert(&database.pool).await.unwrap(), Change::Updated);
    let (version, status, next, _) = state().await;
    assert_eq!((version, status.as_str(), next), (2, "normal", planned.2));

    assert_eq!(declare("0 3 * * *").upsert(&database.pool).await.unwrap(), Change::Updated);
    let (version, status, next, _) = state().await;
    assert_eq!((version, status.as_str(), next), (3, "pending", None));
}

#[tokio::test]
async fn an_older_program_does_not_undo_what_a_newer_one_declared() {
    let database = Database::fresh().await;
    let declare = |cron: &str, version| NewSchedule::cron("nightly", cron, "report").declared_version(version);
    declare("0 2 * * *", 2).upsert(&database.pool).await.unwrap();
    assert_eq!(declare("0 1 * * *", 1).upsert(&database.pool).await.unwrap(), Change::Unchanged);
    assert_eq!(declare("0 3 * * *", 3).upsert(&database.pool).await.unwrap(), Change::Updated);
    let cron: String =
        sqlx::query_scalar("select cron from watchbell.schedules").fetch_one(&database.pool).await.unwrap();
    assert_eq!(cron, "0 3 * * *");
}

#[tokio::test]
async fn schedules_of_every_kind_are_listed() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let at = "2031-02-03T04:05:06Z".parse().unwrap();
    NewSchedule::cron("a", "0 2 * * *", "report").timezone("Europe/Paris").insert(pool).await.unwrap();
    NewSchedule::fixed_delay("b", Duration::from_secs(300), "http").insert(pool).await.unwrap();
    NewSchedule::fixed_rate("c", Duration::from_millis(1500), "shell").queue("q").insert(pool).await.unwrap();
    NewSchedule::once("d", at, "report").timeout(None).insert(pool).await.unwrap();
    let rows = Schedules::new().fetch(pool).await.unwrap();
    let shown: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.kind.as_str(), r.spec())).collect();
    assert_eq!(
        shown,
        [
            ("a", "cron", "0 2 * * *".to_owned()),
            ("b", "fixed_delay", "5m".to_owned()),
            ("c", "fixed_rate", "1s500ms".to_owned()),
            ("d", "once", "2031-02-03T04:05:06Z".to_owned()),
        ]
    );
    assert_eq!(rows[0].timeout, Some(TimeDelta::hours(1)));
    assert_eq!(rows[3].timeout, None);
    let names = async |list: Schedules| {
        list.fetch(pool).await.unwrap().into_iter().map(|row| row.name).collect::<Vec<_>>().join("")
    };
    assert_eq!(names(Schedules::new().handler("report")).await, "ad");
    assert_eq!(names(Schedules::new().queue("q")).await, "c");
    assert_eq!(names(Schedules::new().after("b").limit(1)).await, "c");
    assert_eq!(names(Schedules::new().status("pending").name("d")).await, "d");
}

#[tokio::test]
async fn a_bad_schedule_is_refused_in_one_sentence() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    NewSchedule::cron("taken", "@daily", "report").insert(pool).await.unwrap();
    let cases = [
        (NewSchedule::cron("taken", "@daily", "report"), "schedule \"taken\" exists already"),
        (NewSchedule::cron("no spaces", "@daily", "report"), "schedule \"no spaces\": this is not a valid name"),
        (
            NewSchedule::cron("x", "0 0 30 2 *", "report"),
            "schedule \"x\": invalid cron expression \"0 0 30 2 *\": no date matches it",
        ),
        (
            NewSchedule::fixed_rate("x", Duration::from_millis(999), "report"),
            "schedule \"x\": fixed_rate 999ms is shorter than the least of 1s",
        ),
        (
            NewSchedule::cron("x", "@daily", "report").timezone("Mars/Paris"),
            "schedule \"x\": unknown timezone \"Mars/Paris\" (use UTC or an Area/Location name such as Europe/Paris)",
        ),
    ];
    for (schedule, sentence) in cases {
        assert_eq!(schedule.insert(pool).await.unwrap_err().to_string(), sentence);
    }
}

#[tokio::test]
async fn a_pool_over_several_hosts_follows_the_primary() {
    let (Some(mut first), Some(second)) = (private_server().await, private_server().await) else { return };
    let host = |server: &Server| server.url().split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    // Both have the same password: they are copies.
    let hosts = format!("{},{}", host(&first), host(&second));
    let url: DatabaseUrl = first.url().replace(&host(&first), &hosts).parse().unwrap();
    let pool = db::pool(&url, 2).await.unwrap();
    let port =
        async || -> Result<i32, sqlx::Error> { sqlx::query_scalar("select inet_server_port()").fetch_one(&pool).await };
    assert!(first.url().contains(&format!(":{}/", port().await.unwrap())));
    first.halt(Halt::Immediate).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let now_at = loop {
        match port().await {
            Ok(port) => break port,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert!(second.url().contains(&format!(":{now_at}/")));
    pool.close().await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

/// RELIABILITY F19: futures dropped at random awaits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_begin_leaves_no_connection_in_a_transaction() {
    let database = Database::fresh().await;
    let url: DatabaseUrl = database.url.parse().unwrap();
    let session = Session::named("watchbell storm");
    let pool = db::pool_with(&url, &session, 4).await.unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..40 {
        let begins = (0..10).map(|_| {
            let patience = Duration::from_micros(random.u64(0..2_000));
            let pool = pool.clone();
            tokio::spawn(async move {
                // Dropped in the middle of the acquire, of the BEGIN or of the statement.
                let _ = tokio::time::timeout(patience, async {
                    let mut tx = pool.begin().await?;
                    sqlx::query("select 1").execute(&mut *tx).await?;
                    tx.commit().await
                })
                .await;
            })
        });
        for begin in begins.collect::<Vec<_>>() {
            begin.await.unwrap();
        }
        // Whoever comes next stands outside any transaction.
        let row = sqlx::raw_sql("select now() = statement_timestamp()").fetch_one(&pool).await.unwrap();
        assert!(row.get::<bool, _>(0), "round {round}, seed {seed}");
    }
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(pool.acquire().await.unwrap());
    }
    let stuck: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity \
         where application_name = 'watchbell storm' and datname = current_database() and state like 'idle in transaction%'",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(stuck, 0, "seed {seed}");
}

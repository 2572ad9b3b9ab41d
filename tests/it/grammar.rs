//! The database and the worker read cron expressions, zones and durations alike.

use std::collections::BTreeSet;

use sqlx::PgPool;
use watchbell::duration;
use watchbell::schedule::{Cron, Dst};

use crate::support::Database;
use crate::table;

/// What the database says is wrong with each expression.
async fn problems(pool: &PgPool, expressions: &[String]) -> Vec<Option<String>> {
    sqlx::query_scalar(
        "select p.problem from unnest($1::text[]) with ordinality e (text, n), watchbell.cron_problem(e.text) p order by n",
    )
    .bind(expressions)
    .fetch_all(pool)
    .await
    .unwrap()
}

/// What the worker says, without the expression itself.
fn problem(expression: &str) -> Option<String> {
    let sentence = Cron::parse(expression, "UTC", Dst::Once).err()?.to_string();
    Some(sentence.split_once("\": ").unwrap().1.to_owned())
}

/// All expressions of the published vectors.
fn published() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for text in [
        include_str!("../data/cron/robfig_next.csv"),
        include_str!("../data/cron/robfig_bad.csv"),
        include_str!("../data/cron/cron_oracle.csv"),
        include_str!("../data/cron/cron_dst.csv"),
        include_str!("../data/cron/cron_ext.csv"),
        include_str!("../data/cron/cron_ocps.csv"),
    ] {
        all.extend(table::read(text).iter().map(|row| row.get("spec").to_owned()));
    }
    all.retain(|spec| !spec.contains("@every"));
    all
}

async fn assert_alike(pool: &PgPool, expressions: &[String]) {
    let differences: Vec<String> = problems(pool, expressions)
        .await
        .into_iter()
        .zip(expressions)
        .filter(|(database, expression)| *database != problem(expression))
        .map(|(database, expression)| format!("{expression:?}: {database:?}, the worker: {:?}", problem(expression)))
        .collect();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test]
async fn published_expressions_are_judged_alike() {
    let database = Database::fresh().await;
    let expressions: Vec<String> = published().into_iter().collect();
    assert!(expressions.len() > 500, "{}", expressions.len());
    assert_alike(&database.pool, &expressions).await;
}

#[tokio::test]
async fn published_expressions_are_accepted_in_rows() {
    let database = Database::fresh().await;
    let sound: Vec<String> = published().into_iter().filter(|spec| problem(spec).is_none()).collect();
    let accepted = sqlx::query(
        "insert into watchbell.schedules (name, handler, cron)
         select 's' || n, 'h', text from unnest($1::text[]) with ordinality e (text, n)",
    )
    .bind(&sound)
    .execute(&database.pool)
    .await
    .unwrap();
    assert_eq!(accepted.rows_affected(), sound.len() as u64);
}

#[tokio::test]
async fn damaged_expressions_are_refused_in_the_same_words() {
    let database = Database::fresh().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let sound: Vec<String> = published().into_iter().filter(|spec| !spec.contains('=')).collect();
    let pieces =
        ["*", "?", "/", "-", ",", "L", "W", "#", "+", "0", "7", "60", "100000000", "JAN", "fri", " ", "@", "x", "é"];
    let damaged: Vec<String> = (0..3_000)
        .map(|_| {
            let mut text: Vec<char> = sound[random.usize(..sound.len())].chars().collect();
            for _ in 0..random.usize(1..3) {
                let at = random.usize(..=text.len());
                let until = (at + random.usize(..3)).min(text.len());
                text.splice(at..until, pieces[random.usize(..pieces.len())].chars());
            }
            text.into_iter().collect()
        })
        .filter(|text: &String| !text.contains("@every"))
        .collect();
    assert_alike(&database.pool, &damaged).await;
}

#[tokio::test]
async fn a_huge_range_is_refused_without_being_expanded() {
    let database = Database::fresh().await;
    let expressions: Vec<String> = ["1-100000000 * * * *", "*/100000000 * * * *", "1-99999999999999999999/2 * * * *"]
        .iter()
        .map(|&text| text.to_owned())
        .collect();
    assert_alike(&database.pool, &expressions).await;
    let milliseconds: f64 = sqlx::query_scalar(
        "select extract(epoch from clock_timestamp() - statement_timestamp())::float8 * 1000
         from watchbell.cron_problem('1-100000000 * * * *') where problem is not null",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert!(milliseconds < 100.0, "{milliseconds} ms");
}

#[tokio::test]
async fn zones_are_known_to_both_or_to_neither() {
    let database = Database::fresh().await;
    for (zone, known) in [
        ("UTC", true),
        ("Europe/Paris", true),
        ("America/Argentina/Buenos_Aires", true),
        ("America/Port-au-Prince", true),
        ("Asia/Kathmandu", true),
        ("Etc/UTC", true),
        ("Etc/GMT+5", true),
        ("Etc/GMT-14", true),
        ("Etc/GMT-15", false),
        ("Etc/GMT+13", false),
        ("Mars/Paris", false),
        ("Mars/Paris5", false),
        ("foo5", false),
        ("UTC+3", false),
        ("+03", false),
        ("", false),
        (" UTC", false),
        ("right/Europe/Paris", false),
        ("posix/Europe/Paris", false),
        ("../etc/passwd", false),
        ("Europe/Paris'; --", false),
    ] {
        let database: bool =
            sqlx::query_scalar("select watchbell.is_timezone($1)").bind(zone).fetch_one(&database.pool).await.unwrap();
        let worker = Cron::parse("@daily", zone, Dst::Once).is_ok();
        assert_eq!((database, worker), (known, known), "{zone}");
    }
}

#[tokio::test]
async fn durations_are_read_alike() {
    let database = Database::fresh().await;
    for text in [
        "1h30m",
        "1d",
        "2w",
        "1w2d3h",
        "5 min",
        "30 s",
        "0.1s",
        ".5s",
        "1.5 hours",
        "250ms",
        "900us",
        "0s",
        "PT1H",
        "P1DT12H",
        "P2W",
        "PT0.5S",
        "00:01:30",
        "1:30",
        "1 day 02:00:00.5",
        "@ 5 mins",
        "36525d",
        " 5s ",
        "5",
        "",
        "5M",
        "1 mon",
        "1 month",
        "P1M",
        "P1Y",
        "PT",
        "P",
        "1:2:3",
        "1..5s",
        "-5m",
        "5m-",
        "Xm",
        "infinity",
        "5 parsecs",
        "tomorrow",
        "1s; drop",
    ] {
        let database: Option<i64> =
            sqlx::query_scalar("select (extract(epoch from watchbell.duration($1)) * 1000)::bigint")
                .bind(text)
                .fetch_one(&database.pool)
                .await
                .unwrap();
        let worker = duration::parse(text).ok().map(|d| d.num_milliseconds());
        assert_eq!(database.is_some(), worker.is_some(), "{text}: {database:?}, the worker: {worker:?}");
        // The worker cuts off what is finer than a millisecond.
        assert!((database.unwrap_or(0) - worker.unwrap_or(0)).abs() <= 1, "{text}: {database:?}, {worker:?}");
    }
}

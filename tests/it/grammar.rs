//! The database and the worker read cron expressions, zones and durations alike.

use std::collections::BTreeSet;

use sqlx::PgPool;
use watchbell::duration;
use watchbell::schedule::{Cron, CronError, Dst, Spec};

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
    match Spec::cron(expression, "UTC", Dst::Once).err()? {
        CronError::Expression { problem, .. } => Some(problem),
        other => panic!("{other}"),
    }
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
    all
}

/// The same words, but for what is wrong with the duration of `@every`: there the worker says more.
fn is_alike(database: &Option<String>, worker: &Option<String>) -> bool {
    let of_duration = |problem: &Option<String>, part: &str| problem.as_ref().is_some_and(|text| text.contains(part));
    database == worker || of_duration(database, "is not a duration") && of_duration(worker, "invalid duration")
}

async fn assert_alike(pool: &PgPool, expressions: &[String]) {
    // two sessions at once: on two cores that is half the time
    let (first, second) = expressions.split_at(expressions.len() / 2);
    let (mut database, more) = tokio::join!(problems(pool, first), problems(pool, second));
    database.extend(more);
    let differences: Vec<String> = std::iter::zip(expressions, database)
        .map(|(expression, database)| (expression, database, problem(expression)))
        .filter(|(_, database, worker)| !is_alike(database, worker))
        .map(|(expression, database, worker)| format!("{expression:?}: {database:?}, the worker: {worker:?}"))
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

/// Expressions that are mostly almost sound: published ones damaged in one or two places, fields of random
/// terms, and text of the grammar's characters in any order.
fn random_expression(random: &mut fastrand::Rng, sound: &[String]) -> String {
    match random.u8(..10) {
        0..5 => {
            let text = random.choice(sound).unwrap();
            damaged(random, text)
        }
        5..9 => random_fields(random),
        _ => {
            let chars: Vec<char> = "0123456789*/,-?LW#+@ \tJANfrieévTZ=".chars().collect();
            (0..random.usize(..60)).map(|_| chars[random.usize(..chars.len())]).collect()
        }
    }
}

fn damaged(random: &mut fastrand::Rng, sound: &str) -> String {
    let pieces = [
        "*",
        "?",
        "/",
        "-",
        ",",
        "L",
        "W",
        "#",
        "+",
        "0",
        "7",
        "60",
        "100000000",
        "JAN",
        "fri",
        " ",
        "@",
        "x",
        "é",
        "\u{1}",
        "@every",
        "TZ=",
        "\u{a0}",
    ];
    let mut text: Vec<char> = sound.chars().collect();
    for _ in 0..random.usize(1..3) {
        let at = random.usize(..=text.len());
        let until = (at + random.usize(..3)).min(text.len());
        text.splice(at..until, pieces[random.usize(..pieces.len())].chars());
    }
    text.into_iter().collect()
}

/// Five to seven fields, seldom four or eight; most terms fit their field, so that about half the
/// expressions are sound.
fn random_fields(random: &mut fastrand::Rng) -> String {
    const ZONES: [&str; 4] = ["TZ=utc\t", "CRON_TZ=Europe/Paris ", "TZ=europe/paris  ", "TZ=Etc/GMT+5 "];
    const NO_ZONES: [&str; 3] = ["TZ=Mars/Paris ", "TZ= ", "TZ=EST5EDT "];
    const NICKS: [&str; 7] = ["@daily", "@Daily", "@reboot", "@every", "@every  1h30m ", "@every x", "@everyday"];
    let mut text = match random.u8(..200) {
        // for its hint the database reads all its zones, which takes it some 10 ms
        0 => random.choice(NO_ZONES).unwrap().to_owned(),
        1..30 => random.choice(ZONES).unwrap().to_owned(),
        _ => String::new(),
    };
    if random.u8(..20) == 0 {
        return text + random.choice(NICKS).unwrap();
    }
    let ranges = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7), (1970, 2199)];
    let fields = match random.u8(..20) {
        0 if random.bool() => &ranges[..4],
        1..12 => &ranges[1..6],
        12..16 => &ranges[..6],
        _ => &ranges[..],
    };
    for &(low, high) in fields {
        for k in 0..random.choice([1, 1, 1, 2, 3]).unwrap() {
            text.push_str(if k > 0 { "," } else { "" });
            text.push_str(&random_term(random, low, high));
        }
        text.push_str(random.choice([" ", " ", "  ", "\t"]).unwrap());
    }
    text + if random.u8(..60) == 0 { "*" } else { "" }
}

fn random_term(random: &mut fastrand::Rng, low: u32, high: u32) -> String {
    const JUNK: [&str; 14] =
        ["", "?", "+1", "+*", "5#6", "L-3", "W", "#", "1W-2", "JANUARY", "1-", "-1", "*/x", "4294967296"];
    let (a, b, step) = (random.u32(low..=high), random.u32(low..=high + 1), random.u32(..=high - low + 2));
    let (from, to) = (a.min(b), a.max(b));
    match (random.u8(..60), low, high) {
        (0, ..) => random.choice(JUNK).unwrap().to_owned(),
        (1, ..) => format!("{a}-{b}"),
        (2, ..) => format!("*/{step}"),
        (3, ..) => format!("{a}/{step}"),
        (4, ..) => format!("{from}-{to}/{step}"),
        (5, ..) => b.to_string(),
        (6..20, ..) => a.to_string(),
        (20..40, 1, 31) => random.choice(["L", "LW", "lw", "15W", "31w", "?", "1-7"]).unwrap().to_owned(),
        (20..40, 1, 12) => random.choice(["JAN", "dec", "May-Jun", "JAN-DEC/3", "SEP/2"]).unwrap().to_owned(),
        (20..40, 0, 7) => random.choice(["MON-FRI", "sun", "sat#2", "7L", "+TUE", "5#L", "1#5"]).unwrap().to_owned(),
        _ => "*".to_owned(),
    }
}

#[tokio::test]
async fn ten_thousand_random_expressions_are_judged_alike_and_refused_in_the_same_words() {
    let database = Database::fresh().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let published: Vec<String> = published().into_iter().collect();
    let expressions: Vec<String> = (0..10_000).map(|_| random_expression(&mut random, &published)).collect();
    let started = std::time::Instant::now();
    assert_alike(&database.pool, &expressions).await;
    let judged = started.elapsed();
    let sound = expressions.iter().filter(|expression| problem(expression).is_none()).count();
    println!("{sound} of {} are sound; judged in {judged:?}", expressions.len());
    assert!((1_000..9_000).contains(&sound), "{sound}: only one side of the question is asked");
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
        ("utc", true),
        ("Europe/Paris", true),
        ("europe/paris", true),
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
    // Whatever names the database has: the files of this machine, or those it was built with.
    let all: Vec<(String, bool)> = sqlx::query_as("select name, watchbell.is_timezone(name) from pg_timezone_names")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert!(all.len() > 300, "{}", all.len());
    let worker = |zone: &str| Cron::parse("@daily", zone, Dst::Once).is_ok();
    let unlike: Vec<_> = all.iter().filter(|(zone, database)| *database != worker(zone)).collect();
    assert!(unlike.is_empty(), "{unlike:?}");
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

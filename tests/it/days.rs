//! A day's partition is there before its first row, and goes when its time has come.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::rows::refusal;
use crate::support::Database;

const PARENTS: [&str; 6] = ["run_output", "run_errors", "watch_errors", "activity", "fires", "runs_finished"];

async fn run(connection: &mut PgConnection, statement: &str) {
    let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await;
    done.unwrap_or_else(|e| panic!("{statement}: {e}"));
}

/// The partitions of one table, by name.
async fn days(connection: &mut PgConnection, parent: &str) -> Vec<String> {
    sqlx::query_scalar(
        "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = ('watchbell.' || $1)::regclass and c.relkind = 'r' order by c.relname",
    )
    .bind(parent)
    .fetch_all(connection)
    .await
    .unwrap()
}

async fn drop_days(connection: &mut PgConnection, retention: &str) -> Vec<(String, Option<String>)> {
    sqlx::query_as("select partition, problem from watchbell.drop_days($1::text::interval)")
        .bind(retention)
        .fetch_all(connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_new_schema_has_yesterday_to_two_weeks_ahead() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    for parent in PARENTS {
        let days = days(&mut connection, parent).await;
        assert_eq!(days.len(), 16, "{days:?}");
        let expected: (String, String) = sqlx::query_as(
            "select $1 || to_char(t - interval '1 day', '\"_\"YYYYMMDD'), $1 || to_char(t + interval '14 days', '\"_\"YYYYMMDD')
             from (select now() at time zone 'UTC') n (t)",
        )
        .bind(parent)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!((&days[0], &days[15]), (&expected.0, &expected.1));
    }
}

#[tokio::test]
async fn a_day_begins_and_ends_at_midnight_utc_in_any_session() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    run(&mut connection, "set timezone = 'Pacific/Kiritimati'").await;
    let made: bool = sqlx::query_scalar("select watchbell.make_day('fires', '2031-05-06')")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(made);
    run(&mut connection, "set timezone = 'UTC'").await;
    let bounds: String =
        sqlx::query_scalar("select pg_get_expr(relpartbound, oid) from pg_class where relname = 'fires_20310506'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(bounds, "FOR VALUES FROM ('2031-05-06 00:00:00+00') TO ('2031-05-07 00:00:00+00')");
}

#[tokio::test]
async fn making_days_again_makes_only_what_is_missing() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let make = "select d from watchbell.make_days() d";
    let made: Vec<String> = sqlx::query_scalar(make).fetch_all(&mut connection).await.unwrap();
    assert!(made.is_empty(), "{made:?}");
    let gone = days(&mut connection, "run_errors").await.swap_remove(3);
    run(&mut connection, &format!("drop table watchbell.{gone}")).await;
    let made: Vec<String> = sqlx::query_scalar(make).fetch_all(&mut connection).await.unwrap();
    assert_eq!(made, [gone]);
    let again: bool = sqlx::query_scalar("select watchbell.make_day('run_errors', (now() at time zone 'UTC')::date)")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!again);
}

#[tokio::test]
async fn a_day_has_the_indexes_of_its_table_and_no_default_partition_swallows_rows() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    for parent in PARENTS {
        let counts: (i64, i64) = sqlx::query_as(
            "select (select count(*) from pg_index where indrelid = ('watchbell.' || $1)::regclass),
                    (select min(n) from (select count(x.*) as n from pg_inherits i left join pg_index x on x.indrelid = i.inhrelid
                     where i.inhparent = ('watchbell.' || $1)::regclass group by i.inhrelid) p)",
        )
        .bind(parent)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!(counts.0, counts.1, "{parent}");
    }
    let missing = refusal(
        &mut connection,
        "insert into watchbell.run_errors (run_id, attempt, fence, kind, message, at) values (1, 1, 1, 'failed', 'm', '2040-01-01')",
    )
    .await;
    assert_eq!(missing.code, "23514");
    assert!(missing.message.starts_with("no partition of relation"), "{missing:?}");
}

#[tokio::test]
async fn two_that_make_the_same_days_both_succeed() {
    let database = Database::fresh().await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        let mut connection = database.connect().await;
        calls.push(tokio::spawn(async move {
            let mut made = 0;
            for day in 0..10 {
                made += u32::from(make_patiently(&mut connection, day).await);
            }
            made
        }));
    }
    let mut made = 0;
    for call in calls {
        made += call.await.unwrap();
    }
    assert_eq!(made, 10);
}

/// Whether this call made the day; each waits no longer than 100 ms for another.
async fn make_patiently(connection: &mut PgConnection, day: i32) -> bool {
    loop {
        let made = sqlx::query_scalar("select watchbell.make_day('fires', date '2031-05-06' + $1)").bind(day);
        match made.fetch_one(&mut *connection).await {
            Ok(made) => return made,
            Err(error) if error.as_database_error().unwrap().code().as_deref() == Some("55P03") => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn making_a_day_waits_for_no_reader_and_no_writer() {
    let database = Database::fresh().await;
    let (mut busy, mut connection) = (database.connect().await, database.connect().await);
    run(&mut busy, "begin").await;
    run(&mut busy, "insert into watchbell.fires (schedule_id, fire_at, disposition) values (1, now(), 'run')").await;
    run(&mut busy, "select * from watchbell.fires").await;
    run(&mut connection, "select watchbell.make_day('fires', '2031-05-06')").await;
}

#[tokio::test]
async fn days_past_the_retention_are_dropped_and_no_other() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    for parent in PARENTS {
        for day in ["2030-01-01", "2030-01-02", "2030-01-03"] {
            run(&mut connection, &format!("select watchbell.make_day('{parent}', '{day}')")).await;
        }
    }
    run(&mut connection, "create table watchbell.fires_mine partition of watchbell.fires for values from ('2029-01-01Z') to ('2029-01-02Z')")
        .await;
    run(&mut connection, "set watchbell.now = '2030-02-01 00:00Z'").await;
    // A day that ended exactly 30 days ago is past it.
    let dropped = drop_days(&mut connection, "30 days").await;
    let expected: Vec<_> =
        PARENTS.iter().flat_map(|parent| ["20300101"].map(|day| (format!("{parent}_{day}"), None))).collect();
    assert!(expected.iter().all(|day| dropped.contains(day)), "{dropped:?}");
    // The days of the real now, years ago on this clock, go too; what we did not name stays.
    let left = days(&mut connection, "fires").await;
    assert_eq!(left, ["fires_20300102", "fires_20300103", "fires_mine"]);
    assert!(drop_days(&mut connection, "30 days").await.is_empty());
}

#[tokio::test]
async fn a_day_that_is_read_stays_and_stops_no_other() {
    let database = Database::fresh().await;
    let (mut reader, mut connection) = (database.connect().await, database.connect().await);
    for day in ["2020-01-01", "2020-01-02", "2020-01-03"] {
        run(&mut connection, &format!("select watchbell.make_day('fires', '{day}')")).await;
    }
    run(&mut reader, "begin").await;
    run(&mut reader, "select * from watchbell.fires_20200102").await;
    let dropped = drop_days(&mut connection, "1 day").await;
    assert_eq!(
        dropped,
        [
            ("fires_20200101".to_owned(), None),
            ("fires_20200102".to_owned(), Some("fires_20200102 is in use; it is dropped at a later call".to_owned())),
            ("fires_20200103".to_owned(), None),
        ]
    );
    run(&mut reader, "commit").await;
    assert_eq!(drop_days(&mut connection, "1 day").await, [("fires_20200102".to_owned(), None)]);
}

#[tokio::test]
async fn a_long_read_of_the_table_holds_a_drop_up_for_a_moment_only() {
    let database = Database::fresh().await;
    let (mut reader, mut connection) = (database.connect().await, database.connect().await);
    for day in 1..=9 {
        run(&mut connection, &format!("select watchbell.make_day('fires', '2020-01-0{day}')")).await;
    }
    run(&mut reader, "begin").await;
    run(&mut reader, "select * from watchbell.fires").await;
    let (stay, milliseconds): (i64, f64) = sqlx::query_as(
        "select count(problem), extract(epoch from clock_timestamp() - min(statement_timestamp()))::float8 * 1000
         from watchbell.drop_days('1 day', 'fires')",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(stay, 9);
    assert!(milliseconds < 500.0, "{milliseconds} ms for nine days behind one reader");
}

#[tokio::test]
async fn bad_arguments_are_refused_in_one_sentence() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    for (call, message) in [
        ("watchbell.make_day('workers', '2030-01-01')", "table \"workers\" has no days"),
        ("watchbell.make_day('fires; drop table x', '2030-01-01')", "table \"fires; drop table x\" has no days"),
        ("watchbell.make_day(null, '2030-01-01')", "table \"\" has no days"),
        ("watchbell.make_day('fires', null)", "day NULL is outside the years 1970 to 9998"),
        ("watchbell.make_day('fires', 'infinity')", "day infinity is outside the years 1970 to 9998"),
        ("watchbell.make_days(-1)", "ahead -1 is out of range 0-400 days"),
        ("watchbell.make_days(100000)", "ahead 100000 is out of range 0-400 days"),
        ("watchbell.drop_days('23 hours')", "retention 23:00:00 is shorter than the least of 1 day"),
        ("watchbell.drop_days(null)", "retention NULL is shorter than the least of 1 day"),
        ("watchbell.drop_days('1 day', 'runs')", "table \"runs\" has no days"),
    ] {
        let refusal = refusal(&mut connection, &format!("select {call}")).await;
        assert_eq!(refusal.message, message, "{call}");
        assert!(!refusal.hint.is_empty(), "{call}");
    }
}

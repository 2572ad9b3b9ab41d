//! `watchbell::testing` and watches: rows worked by the test, in both modes, at a time that it sets.

use std::time::Duration;

use chrono::{TimeDelta, Timelike};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use watchbell::client::{NewWatch, Step, Watch};
use watchbell::handler::sql::Sql;
use watchbell::testing::Engine;
use watchbell::worker::Builder;
use watchbell::{Context, Error, HandlerResult, Outcome, Row, Rows, Tx, Worker, fatal, minutes, snooze};

use crate::support::Database;

const HOSTS: &str = "create table hosts (id bigint primary key, name text not null default '',
                                         status text not null default 'pending', since timestamptz);
    create index on hosts (id) where status = 'pending';
    create table effects (host bigint not null)";

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
    name: String,
}

/// An engine of this worker at noon of the database's tomorrow, so that nothing but the test moves its time.
async fn engine(worker: Builder) -> Engine {
    let mut engine = Engine::of(worker).await.unwrap();
    let tomorrow = engine.now() + TimeDelta::days(1);
    let noon = tomorrow.with_hour(12).and_then(|t| t.with_minute(0)?.with_second(0)?.with_nanosecond(0)).unwrap();
    engine.set_now(noon).await.unwrap();
    engine
}

async fn hosts(rows: &str) -> (Database, PgPool) {
    let database = Database::fresh().await;
    sqlx::raw_sql(AssertSqlSafe(format!("{HOSTS}; insert into hosts (id, name) {rows}")))
        .execute(&database.pool)
        .await
        .unwrap();
    let pool = database.pool.clone();
    (database, pool)
}

fn hourly() -> serde_json::Value {
    json!({"strategy": "fixed", "base": "1h", "jitter": false})
}

/// The state of each row, in order.
async fn states(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select status from hosts order by id").fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn rows_in_both_modes_go_on_until_none_is_due() {
    let (_database, pool) = hosts("select i, 'host ' || i from generate_series(1, 120) i").await;
    let note = |mut tx: Tx, rows: Rows<Host>| async move {
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        sqlx::query("insert into effects select unnest($1::bigint[])").bind(ids).execute(&mut *tx).await?;
        HandlerResult::Ok(())
    };
    let check = |host: Row<Host>| async move {
        if host.name.is_empty() { Err(fatal("no name")) } else { HandlerResult::Ok(()) }
    };
    let watch = Watch::table("hosts")
        .since("since")
        .step(Step::from("pending").to("noted").handler("note"))
        .step(Step::from("noted").via("checking").to("normal").handler("check"));
    let worker = Worker::builder(pool.clone()).transactional("note", note).handler("check", check);
    let mut engine = engine(worker.declare_watch(NewWatch::new("hosts", watch))).await;

    sqlx::query("update hosts set name = '' where id = 7").execute(&pool).await.unwrap();
    let rows = engine.work_rows("hosts").await.unwrap();

    assert_eq!(rows.len(), 240);
    let first = rows[0].assert("noted");
    assert_eq!(
        (first.key.as_slice(), first.step.as_str(), first.handler.as_str()),
        (&["1".to_owned()][..], "pending", "note")
    );
    assert_eq!((first.attempt, first.error.as_deref(), first.again_at, first.at), (1, None, None, engine.now()));
    let seventh = rows.iter().find(|row| row.step == "noted" && row.key == ["7"]).unwrap();
    assert_eq!(seventh.assert("failed").error.as_deref(), Some("no name"));
    assert_eq!(rows.iter().filter(|row| row.state.as_deref() == Some("normal")).count(), 119);
    assert!(engine.work_rows("hosts").await.unwrap().is_empty());
    assert_eq!(engine.watch("hosts").await.unwrap().status, "normal");
    let since: Vec<bool> =
        sqlx::query_scalar("select distinct since = $1 from hosts").bind(engine.now()).fetch_all(&pool).await.unwrap();
    assert_eq!(since, [true], "moves are at the set time");
}

#[tokio::test]
async fn a_row_is_tried_again_when_the_test_lets_its_time_come() {
    for leased in [false, true] {
        let (_database, pool) = hosts("values (1, ''), (2, 'two')").await;
        let init = |host: Row<Host>, _: Context| async move {
            if host.name.is_empty() { Err("no name".into()) } else { HandlerResult::Ok(()) }
        };
        let init_in = |mut tx: Tx, host: Row<Host>| async move {
            sqlx::query("insert into effects values ($1)").bind(host.id).execute(&mut *tx).await?;
            if host.name.is_empty() { Err("no name".into()) } else { HandlerResult::Ok(()) }
        };
        let watch = Watch::table("hosts").retry(&hourly()).max_attempts(2);
        let worker = Worker::builder(pool.clone());
        let worker = match leased {
            true => worker.watch("hosts", watch, init),
            false => worker.watch_transactional("hosts", watch, init_in),
        };
        let mut engine = engine(worker).await;

        let rows = engine.work_rows("hosts").await.unwrap();
        assert_eq!(rows.len(), 2);
        rows[1].assert("normal");
        let in_an_hour = engine.now() + TimeDelta::hours(1);
        assert_eq!((rows[0].assert("pending").again_at, rows[0].attempt), (Some(in_an_hour), 1));
        assert_eq!(rows[0].error.as_deref(), Some("no name"));

        engine.advance(Duration::from_secs(3599)).await.unwrap();
        assert!(engine.work_rows("hosts").await.unwrap().is_empty());
        engine.advance(Duration::from_secs(1)).await.unwrap();
        let rows = engine.work_rows("hosts").await.unwrap();
        assert_eq!((rows.len(), rows[0].assert("failed").attempt, rows[0].again_at), (1, 2, None));
        let effects: i64 = sqlx::query_scalar("select count(*) from effects").fetch_one(&pool).await.unwrap();
        assert_eq!(effects, i64::from(!leased), "what failed left no effect");

        // an attempt of the same number that succeeds does not show the error of another passage
        sqlx::query("update hosts set status = 'pending', name = 'one' where id = 1").execute(&pool).await.unwrap();
        let rows = engine.work_rows("hosts").await.unwrap();
        assert_eq!((rows.len(), rows[0].assert("normal").error.as_deref()), (1, None));
    }
}

#[tokio::test]
async fn snoozes_rates_pauses_and_the_handler_sql_are_as_in_a_worker() {
    let (_database, pool) = hosts("select i, 'host ' || i from generate_series(1, 5) i").await;
    let later = |_: Row<Host>| async { HandlerResult::Ok(snooze(minutes(5))) };
    let worker = Worker::builder(pool.clone()).transactional("sql", Sql::new(pool.clone()));
    let worker = worker.watch("later", Watch::table("hosts").filter("id = 1"), later);
    let mut engine = engine(worker).await;
    let rows = engine.work_rows("later").await.unwrap();
    assert_eq!((rows.len(), rows[0].assert("pending").error.as_deref()), (1, None));
    assert_eq!(rows[0].again_at, Some(engine.now() + TimeDelta::minutes(5)));

    let insert = r#"insert into watchbell.watches (name, table_name, handler, payload, filter, rate_limit, rate_period)
        values ('sql', 'hosts', 'sql', '{"statement": "insert into effects select id from claimed"}', 'id > 1', 3, '1 min')"#;
    sqlx::query(insert).execute(&engine.pool()).await.unwrap();
    assert_eq!(engine.work_rows("sql").await.unwrap().len(), 1);
    engine.advance(Duration::from_secs(20)).await.unwrap();
    assert_eq!(engine.work_rows("sql").await.unwrap().len(), 1);
    sqlx::query("select watchbell.pause_watch('sql', until => watchbell.clock() + interval '1 h')")
        .execute(&engine.pool())
        .await
        .unwrap();
    engine.advance(Duration::from_secs(3599)).await.unwrap();
    assert!(engine.work_rows("sql").await.unwrap().is_empty());
    engine.advance(Duration::from_secs(1)).await.unwrap();
    assert_eq!(engine.work_rows("sql").await.unwrap().len(), 1);
    assert_eq!(states(&pool).await, ["pending", "normal", "normal", "normal", "pending"]);
}

#[tokio::test]
async fn what_cannot_be_worked_is_said() {
    let (_database, pool) = hosts("values (1, 'one')").await;
    let endless = |_: Row<Host>| async { HandlerResult::<Outcome>::Ok(snooze(Duration::ZERO)) };
    let worker = Worker::builder(pool.clone()).watch("hosts", Watch::table("hosts"), endless);
    let mut engine = engine(worker).await;
    let endless = engine.work_rows("hosts").await.unwrap_err();
    assert!(matches!(&endless, Error::Conflict(said) if said.contains("row 1 by handler \"hosts\"")), "{endless}");
    let unknown = engine.work_rows("host").await.unwrap_err();
    assert!(matches!(unknown, Error::NotFound { kind: "watch", .. }), "{unknown}");
    sqlx::query("drop table hosts").execute(&pool).await.unwrap();
    let gone = engine.work_rows("hosts").await.unwrap_err();
    assert_eq!(gone.to_string(), "watch \"hosts\": table_name: table public.hosts does not exist");
}

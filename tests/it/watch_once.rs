//! A worker that works what is due and then ends works the rows of watches too, in both modes and to their last step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use watchbell::handler::sql::Sql;
use watchbell::worker::Builder;
use watchbell::{Context, HandlerResult};

use crate::cli::{Ended, execute, run};
use crate::support::Database;
use crate::support::crew::{config, start};

const HOSTS: &str = "set client_min_messages = error;
    create table hosts (id bigint primary key, name text, status text not null default 'pending');
    create index on hosts (id) where status = 'pending';
    create table effects (host bigint not null);";

/// A database with tables and watches, written as a person would.
async fn stage(statements: &str) -> Database {
    let database = Database::fresh().await;
    execute(&database, &format!("{HOSTS} {statements}")).await;
    database
}

/// A worker that works what is due and then ends, with the handler `sql`.
fn hand(pool: &PgPool) -> Builder {
    let mut config = config("once");
    config.once = true;
    watchbell::Worker::builder(pool.clone()).config(config).transactional("sql", Sql::new(pool.clone()))
}

/// Works until the worker ends by itself.
async fn work(worker: Builder) {
    start(worker).ended().await.unwrap();
}

/// How many rows stand in each state, as `state=rows`.
async fn states(pool: &PgPool, table: &str) -> Vec<String> {
    let query = format!("select status || '=' || count(*) from {table} group by status order by status");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await.unwrap()
}

async fn count(pool: &PgPool, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn rows_go_through_all_their_steps_in_both_modes_before_it_ends() {
    let database = stage(
        r#"insert into hosts select i, 'host ' || i from generate_series(1, 700) i;
           insert into watchbell.watches (name, table_name, transitions) values ('hosts', 'hosts', '[
               {"from": "pending", "to": "noted", "handler": "sql",
                "payload": {"statement": "insert into effects select id from claimed"}},
               {"from": "noted", "via": "checking", "to": "checked", "handler": "check"},
               {"from": "checked", "to": "normal", "handler": "sql",
                "payload": {"statement": "insert into effects select id from claimed"}}]')"#,
    )
    .await;
    let pool = &database.pool;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let check = move |_: Context| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { HandlerResult::Ok(()) }
    };
    work(hand(pool).handler("check", check)).await;
    assert_eq!(states(pool, "hosts").await, ["normal=700"]);
    assert_eq!((calls.load(Ordering::Relaxed), count(pool, "select count(*) from effects").await), (700, 1400));
    assert_eq!(count(pool, "select done from watchbell.watch_status").await, 2100);
    assert_eq!(count(pool, "select count(*) from watchbell.watch_claims").await, 0);
}

#[tokio::test]
async fn rows_that_wait_for_a_retry_a_pause_or_another_worker_hold_up_nothing() {
    let database = stage(
        r#"create table models (like hosts including all);
           insert into hosts select i, 'host ' || i from generate_series(1, 5) i;
           insert into models select i, 'model ' || i from generate_series(1, 5) i;
           insert into watchbell.watches (name, table_name, handler, filter) values ('hosts', 'hosts', 'fail', 'id <= 3');
           insert into watchbell.watches (name, table_name, handler, payload, filter) values
               ('rows', 'models', 'sql', '{"statement": "select 1 / (id - 2) from claimed"}', 'id <= 3');
           insert into watchbell.watches (name, table_name, handler, filter) values
               ('paused', 'hosts', 'fail', 'id = 4'), ('elsewhere', 'hosts', 'nobody', 'id = 5');
           select watchbell.pause_watch('paused');"#,
    )
    .await;
    let pool = &database.pool;
    work(hand(pool).handler("fail", async |_: Context| -> HandlerResult { Err("no".into()) })).await;
    assert_eq!(states(pool, "hosts").await, ["pending=5"]);
    assert_eq!(count(pool, "select count(*) from watchbell.watch_errors where attempt = 1").await, 4);
    assert_eq!(count(pool, "select count(*) from watchbell.watch_errors").await, 4, "each was tried once");
    assert_eq!(states(pool, "models").await, ["normal=2", "pending=3"]);
}

#[tokio::test]
async fn what_rows_and_runs_bring_to_each_other_is_done_too() {
    let database = stage(
        r#"insert into watchbell.watches (name, table_name, handler, payload, filter) values
               ('odd', 'hosts', 'sql', '{"statement":
                   "insert into watchbell.runs (handler, payload) select ''next'', jsonb_build_object(''id'', id + 1) from claimed"}',
                'id % 2 = 1');
           insert into watchbell.watches (name, table_name, handler, filter) values ('even', 'hosts', 'odd', 'id % 2 = 0');
           insert into watchbell.runs (handler, payload) values ('next', '{"id": 1}')"#,
    )
    .await;
    let pool = &database.pool;
    let insert = |pool: PgPool, id: i64| async move {
        sqlx::query("insert into hosts (id) select $1 where $1 <= 12").bind(id).execute(&pool).await?;
        HandlerResult::Ok(())
    };
    let (by_run, by_row) = (pool.clone(), pool.clone());
    let next = move |host: Host| insert(by_run.clone(), host.id);
    let odd = move |host: watchbell::Row<Host>| insert(by_row.clone(), host.id + 1);
    work(hand(pool).handler("next", next).handler("odd", odd)).await;
    assert_eq!(states(pool, "hosts").await, ["normal=12"], "a run, a row, a run, a row, ...");
}

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
}

#[tokio::test]
async fn it_waits_for_a_handler_that_is_slow_and_ends_soon_after() {
    let database = stage(
        "insert into hosts values (1, 'slow');
         insert into watchbell.watches (name, table_name, handler, poll_interval) values ('hosts', 'hosts', 'slow', '1 day')",
    )
    .await;
    let pool = &database.pool;
    let second = move |_: Context| async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        HandlerResult::Ok(())
    };
    work(hand(pool).handler("slow", second)).await;
    assert_eq!(states(pool, "hosts").await, ["normal=1"]);
}

#[tokio::test]
async fn a_watch_that_cannot_be_worked_is_left_and_a_rate_is_waited_for_while_there_is_a_row() {
    let database = stage(
        r#"create table models (like hosts including all);
           insert into hosts values (1, 'one');
           insert into models select i, 'model ' || i from generate_series(1, 45) i;
           insert into watchbell.watches (name, table_name, handler) values ('gone', 'hosts', 'init');
           insert into watchbell.watches (name, table_name, handler, filter, payload, rate_limit, rate_period) values
               ('sql', 'models', 'sql', 'id <= 20', '{"statement": "insert into effects select id from claimed"}', 10, '1 s'),
               ('fast', 'models', 'init', 'id between 21 and 44', '{}', 10, '1 s'),
               ('slow', 'models', 'init', 'id = 45', '{}', 1, '1 day');
           drop table hosts"#,
    )
    .await;
    let pool = &database.pool;
    work(hand(pool).handler("init", async |_: Context| {})).await;
    assert_eq!(states(pool, "models").await, ["normal=45"]);
    assert_eq!(count(pool, "select count(*) from watchbell.watches where status = 'invalid'").await, 1);
}

#[tokio::test]
async fn a_table_that_somebody_has_locked_holds_it_up_for_seconds_only() {
    let database = stage(
        r#"create table models (like hosts including all);
           insert into hosts values (1, 'one');
           insert into models values (1, 'one');
           insert into watchbell.watches (name, table_name, handler) values ('hosts', 'hosts', 'init'), ('models', 'models', 'init')"#,
    )
    .await;
    let pool = &database.pool;
    let mut person = pool.begin().await.unwrap();
    sqlx::query("lock table hosts").execute(&mut *person).await.unwrap();
    work(hand(pool).handler("init", async |_: Context| {})).await;
    person.rollback().await.unwrap();
    assert_eq!(
        (states(pool, "hosts").await, states(pool, "models").await),
        (vec!["pending=1".into()], vec!["normal=1".into()])
    );
}

#[tokio::test]
async fn the_program_does_so_as_often_as_it_is_started() {
    let database = stage(
        r#"insert into hosts select i, 'host ' || i from generate_series(1, 250) i;
           insert into watchbell.watches (name, table_name, handler, payload) values
               ('hosts', 'hosts', 'sql', '{"statement": "insert into effects select id from claimed"}')"#,
    )
    .await;
    let url = Some(database.url.as_str());
    let once = ["worker", "run", "--once", "--enable-sql", "--allow-superuser-sql", "--config", "none"];
    for rows in [250, 251] {
        let Ended(code, _, stderr) = run(url, &once);
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(states(&database.pool, "hosts").await, [format!("normal={rows}")]);
        execute(&database, "insert into hosts values (251, 'late') on conflict do nothing").await;
    }
}

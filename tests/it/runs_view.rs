//! `watchbell.runs` is one relation for people: it takes rows as a table would, and only rows that can run.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgPoolCopyExt;
use sqlx::{AssertSqlSafe, Row};

use crate::rows::{assert_refused, refusal};
use crate::support::Database;

async fn count(database: &Database) -> i64 {
    sqlx::query_scalar("select count(*) from watchbell.runs").fetch_one(&database.pool).await.unwrap()
}

#[tokio::test]
async fn a_handler_is_enough() {
    let database = Database::fresh().await;
    let row = sqlx::query("insert into watchbell.runs (handler) values ('mail') returning *")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>("status"), "pending");
    assert_eq!(row.get::<serde_json::Value, _>("payload"), serde_json::json!({}));
    assert_eq!((row.get::<String, _>("queue"), row.get::<i16, _>("priority")), ("default".to_owned(), 5));
    assert_eq!((row.get::<i32, _>("attempt"), row.get::<i16, _>("max_attempts")), (0, 3));
    assert_eq!(row.get::<String, _>("trigger"), "enqueue");
    assert_eq!(row.get::<DateTime<Utc>, _>("run_at"), row.get::<DateTime<Utc>, _>("created_at"));
    let login: String = sqlx::query_scalar("select session_user::text").fetch_one(&database.pool).await.unwrap();
    assert_eq!(row.get::<String, _>("created_by"), login);
}

#[tokio::test]
async fn returning_is_the_stored_row() {
    let database = Database::fresh().await;
    let returned: serde_json::Value = sqlx::query_scalar(
        "with i as (
            insert into watchbell.runs (handler, payload, queue, priority, run_at, max_attempts, retry, timeout,
                start_deadline, unique_key, concurrency_key, target, tags)
            values ('mail', '{\"b\": 1, \"a\": 2}', 'letters', 1, now() + '1 h', 7, '{\"strategy\": \"fixed\"}', '90 s',
                now() + '2 h', 'u', 'c', ' zone = a, disk=ssd ', '{x}')
            returning *)
         select to_jsonb(i) from i",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    let stored: serde_json::Value =
        sqlx::query_scalar("select to_jsonb(r) from watchbell.runs r").fetch_one(&database.pool).await.unwrap();
    assert_eq!(stored, returned);
    assert_eq!(stored["target"], "zone=a,disk=ssd");
}

#[tokio::test]
async fn null_asks_for_the_default_except_of_timeout() {
    let database = Database::fresh().await;
    let rows: Vec<(bool, serde_json::Value)> = sqlx::query_as(
        "with i as (
            insert into watchbell.runs (handler, status, payload, queue, priority, run_at, max_attempts, timeout) values
                ('h', null, null, null, null, null, null, null),
                ('h', default, default, default, default, default, default, default)
            returning *)
         select timeout is null, to_jsonb(i) - 'id' - 'timeout' from i",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert_eq!((rows[0].0, rows[1].0), (true, false));
    assert_eq!(rows[0].1, rows[1].1);
}

#[tokio::test]
async fn the_defaults_are_those_of_the_table_behind() {
    let database = Database::fresh().await;
    let different: Vec<String> = sqlx::query_scalar(
        "select v.column_name::text
         from information_schema.columns v join information_schema.columns t using (table_schema, column_name)
         where v.table_schema = 'watchbell' and v.table_name = 'runs' and t.table_name = 'runs_live'
           and v.column_default is not null and v.column_default is distinct from t.column_default",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert_eq!(different, [""; 0]);
}

#[tokio::test]
async fn many_rows_and_copy_work_as_on_a_table() {
    let database = Database::fresh().await;
    sqlx::query("insert into watchbell.runs (handler) select 'h' || i from generate_series(1, 100) i")
        .execute(&database.pool)
        .await
        .unwrap();
    let mut copy =
        database.pool.copy_in_raw("copy watchbell.runs (handler, payload, priority) from stdin").await.unwrap();
    copy.send("a\t{\"x\": 1}\t0\nb\t{}\t9\n".as_bytes()).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 2);
    let copied: (String, i16, bool) = sqlx::query_as(
        "select status, priority, timeout = '1 hour' from watchbell.runs where handler = 'a' and payload->>'x' = '1'",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(copied, ("pending".to_owned(), 0, true));
    assert_eq!(count(&database).await, 102);
}

#[tokio::test]
async fn one_bad_row_refuses_its_statement() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let statement = "insert into watchbell.runs (handler, priority) values ('a', 1), ('b', 10)";
    assert_refused(
        &mut connection,
        statement,
        "priority",
        "run for handler \"b\": priority 10 is out of range 0-9 (0 runs first)",
    )
    .await;
    assert_eq!(count(&database).await, 0);
}

#[tokio::test]
async fn system_columns_are_refused_by_name_and_value() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    for (column, value, shown) in [
        ("id", "7", "7"),
        ("fence", "1", "1"),
        ("claimed_by", "1", "1"),
        ("attempt", "0", "0"),
        ("crashes", "0", "0"),
        (
            "started_at",
            "'2030-01-01 00:00Z'::timestamptz at time zone 'UTC' at time zone 'UTC'",
            "2030-01-01T00:00:00+00:00",
        ),
        ("finished_at", "'2030-01-01 00:00Z'", "2030-01-01T00:00:00+00:00"),
        ("error", "'oops'", "oops"),
        ("schedule_id", "1", "1"),
        ("schedule_name", "'nightly'", "nightly"),
        ("fire_at", "'2030-01-01 00:00Z'", "2030-01-01T00:00:00+00:00"),
        ("trigger", "'schedule'", "schedule"),
        ("retry_of", "1", "1"),
        ("created_at", "'2030-01-01 00:00Z'", "2030-01-01T00:00:00+00:00"),
        ("created_by", "'root'", "root"),
        ("cancel_requested_at", "'2030-01-01 00:00Z'", "2030-01-01T00:00:00+00:00"),
        ("status", "'running'", "running"),
        ("status", "'normal'", "normal"),
    ] {
        sqlx::query("set timezone = 'UTC'").execute(&mut connection).await.unwrap();
        let statement = format!("insert into watchbell.runs (handler, {column}) values ('h', {value})");
        let message = format!("column \"{column}\" of runs is set by watchbell and cannot be given (got \"{shown}\")");
        assert_refused(&mut connection, &statement, column, &message).await;
    }
    sqlx::query("insert into watchbell.runs (handler, status) values ('h', 'pending')")
        .execute(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_bad_run_is_refused_in_one_sentence() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    for (columns, values, column, message) in [
        ("handler", "null", "handler", "run: handler is missing"),
        ("handler", "''", "handler", "run for handler \"\": handler is missing"),
        (
            "handler, payload",
            "'m', '3'",
            "payload",
            "run for handler \"m\": payload must be a JSON object (got number)",
        ),
        (
            "handler, payload",
            "'m', jsonb_build_object('a', repeat('x', 1048576))",
            "payload",
            "run for handler \"m\": payload is 1048585 bytes, more than the limit of 1048576",
        ),
        (
            "handler, priority",
            "'m', -1",
            "priority",
            "run for handler \"m\": priority -1 is out of range 0-9 (0 runs first)",
        ),
        (
            "handler, max_attempts",
            "'m', 101",
            "max_attempts",
            "run for handler \"m\": max_attempts 101 is out of range 1-100",
        ),
        (
            "handler, timeout",
            "'m', '-1 s'",
            "timeout",
            "run for handler \"m\": timeout -00:00:01 is shorter than the least of 00:00:00.001",
        ),
        (
            "handler, timeout",
            "'m', '2 mons'",
            "timeout",
            "run for handler \"m\": timeout 2 mons counts months, which have no fixed length",
        ),
        (
            "handler, retry",
            "'m', '{\"max\": \"soon\"}'",
            "retry",
            "run for handler \"m\": retry wait \"soon\" is not a duration such as \"5s\", \"1h30m\" or \"2 days\"",
        ),
        ("handler, queue", "'m', ''", "queue", "run for handler \"m\": queue \"\" is not a valid name"),
        ("handler, unique_key", "'m', ''", "unique_key", "run for handler \"m\": unique_key is empty"),
        (
            "handler, unique_key",
            "'m', repeat('é', 129)",
            "unique_key",
            "run for handler \"m\": unique_key is 258 bytes, more than the limit of 256",
        ),
        (
            "handler, concurrency_key",
            "'m', repeat('k', 257)",
            "concurrency_key",
            "run for handler \"m\": concurrency_key is 257 bytes, more than the limit of 256",
        ),
        (
            "handler, target",
            "'m', 'a=b=c'",
            "target",
            "run for handler \"m\": target \"a=b=c\" is not a label selector",
        ),
        ("handler, target", "'m', 'all'", "target", "run for handler \"m\": target \"all\" is not a label selector"),
        ("handler, tags", "'m', array[null]", "tags", "run for handler \"m\": tags must not contain NULL"),
        (
            "handler, run_at",
            "'m', 'infinity'",
            "run_at",
            "run for handler \"m\": run_at infinity is outside the years 1 to 9998",
        ),
        (
            "handler, start_deadline",
            "'m', '-infinity'",
            "start_deadline",
            "run for handler \"m\": start_deadline -infinity is outside the years 1 to 9998",
        ),
    ] {
        let statement = format!("insert into watchbell.runs ({columns}) values ({values})");
        assert_refused(&mut connection, &statement, column, message).await;
    }
}

#[tokio::test]
async fn other_writes_are_refused_with_the_function_to_use() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let id: i64 = sqlx::query_scalar("insert into watchbell.runs (handler) values ('h') returning id")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let changed = refusal(&mut connection, "update watchbell.runs set priority = 1").await;
    assert_eq!(changed.message, format!("run {id} cannot be changed by hand: use watchbell.cancel({id})"));
    let deleted = refusal(&mut connection, "delete from watchbell.runs").await;
    assert_eq!(deleted.message, format!("run {id} cannot be deleted by hand: use watchbell.cancel({id})"));
}

#[tokio::test]
async fn a_unique_key_is_inserted_once_while_it_is_open() {
    let database = Database::fresh().await;
    let insert = "insert into watchbell.runs (handler, unique_key) values ('h', 'k') returning id";
    let first: Option<i64> = sqlx::query_scalar(insert).fetch_optional(&database.pool).await.unwrap();
    let second: Option<i64> = sqlx::query_scalar(insert).fetch_optional(&database.pool).await.unwrap();
    assert!(first.is_some() && second.is_none());
    let two = "insert into watchbell.runs (handler, unique_key) values ('h', 'l'), ('h', 'l')";
    assert_eq!(sqlx::query(two).execute(&database.pool).await.unwrap().rows_affected(), 1);

    sqlx::query("select watchbell.cancel($1)").bind(first).execute(&database.pool).await.unwrap();
    let third: Option<i64> = sqlx::query_scalar(insert).fetch_optional(&database.pool).await.unwrap();
    assert!(third.is_some());
}

#[tokio::test]
async fn a_missing_queue_and_limit_are_added() {
    let database = Database::fresh().await;
    sqlx::query("insert into watchbell.runs (handler, queue, concurrency_key) values ('h', 'q', 'k'), ('h', 'q', 'k')")
        .execute(&database.pool)
        .await
        .unwrap();
    let added: (i64, i64) = sqlx::query_as(
        "select (select count(*) from watchbell.queues where name = 'q'),
                (select count(*) from watchbell.limits where key = 'k' and max_running = 1)",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(added, (1, 1));
}

#[tokio::test]
async fn a_producer_needs_no_right_but_insert_on_its_columns() {
    let database = Database::fresh().await;
    let mut owner = database.connect_admin().await;
    let role = format!("producer_{}", std::process::id());
    for statement in [
        format!("create role {role}"),
        format!("grant usage on schema watchbell to {role}"),
        format!("grant insert (handler, payload, queue) on watchbell.runs to {role}"),
        format!("grant insert (name, cron, handler) on watchbell.schedules to {role}"),
        format!("set role {role}"),
        "insert into watchbell.runs (handler, queue) values ('h', 'new')".to_owned(),
        "insert into watchbell.schedules (name, cron, handler) values ('s', '@daily', 'h')".to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(statement.clone()))
            .execute(&mut owner)
            .await
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    for forbidden in [
        "insert into watchbell.runs_live (handler) values ('h')",
        "insert into watchbell.runs (handler, priority) values ('h', 0)",
        "insert into watchbell.schedules (name, cron, handler, status) values ('t', '@daily', 'h', 'normal')",
        "select watchbell.finish_run(1, 1, 1)",
        "select watchbell.drop_days('1 day')",
        "select watchbell.cancel(1)",
    ] {
        assert_eq!(refusal(&mut owner, forbidden).await.code, "42501", "{forbidden}");
    }
    sqlx::query("reset role").execute(&mut owner).await.unwrap();
    for statement in [format!("drop owned by {role}"), format!("drop role {role}")] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut owner).await.unwrap();
    }
}

#[tokio::test]
async fn a_run_is_seen_through_its_whole_life() {
    let database = Database::fresh().await;
    let id: i64 =
        sqlx::query_scalar("insert into watchbell.runs (handler, payload) values ('h', '{\"a\": 1}') returning id")
            .fetch_one(&database.pool)
            .await
            .unwrap();
    sqlx::query(
        "update watchbell.runs_live set status = 'running', claimed_by = 1, fence = 1, attempt = 1, started_at = now()",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    sqlx::query("select watchbell.cancel($1, 'enough')").bind(id).execute(&database.pool).await.unwrap();
    let seen = "select status, cancel_requested_at is not null, finished_at is not null, payload->>'a'
                from watchbell.runs where id = $1";
    let row: (String, bool, bool, String) = sqlx::query_as(seen).bind(id).fetch_one(&database.pool).await.unwrap();
    assert_eq!(row, ("running".to_owned(), true, false, "1".to_owned()));
    let finished: bool =
        sqlx::query_scalar("select watchbell.finish_run($1, 1, 1)").bind(id).fetch_one(&database.pool).await.unwrap();
    assert!(finished);
    let row: (String, bool, bool, String) = sqlx::query_as(seen).bind(id).fetch_one(&database.pool).await.unwrap();
    assert_eq!(row, ("normal".to_owned(), true, true, "1".to_owned()));
}

//! Watched rows in the handlers `http` and `shell`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::routing::any;
use serde_json::{Value, json};
use sqlx::PgPool;
use watchbell::handler::http::Http;
use watchbell::handler::shell::Shell;
use watchbell::handler::sql::Sql;

use crate::support::Database;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;

const PATIENCE: Duration = Duration::from_secs(60);

/// A table with a key of two columns, two pending rows in it, and a watch whose handler gets this payload.
async fn watched(handler: &str, payload: &Value) -> Database {
    let database = Database::fresh().await;
    let table = "create table orders (region text, no int, price numeric, status text default 'pending', primary key (region, no));
                 insert into orders (region, no, price) values ('eu', 1, 12345678901234567890.10), ('us', 2, 0.5)";
    sqlx::raw_sql(table).execute(&database.pool).await.unwrap();
    watch(&database.pool, handler, payload).await;
    database
}

async fn watch(pool: &PgPool, handler: &str, payload: &Value) {
    let watch = "insert into watchbell.watches (name, table_name, handler, payload, max_attempts, poll_interval)
                 values ('orders', 'public.orders', $1, $2::jsonb, 1, '200 ms')";
    sqlx::query(watch).bind(handler).bind(payload.to_string()).execute(pool).await.unwrap();
}

#[tokio::test]
async fn http_sends_the_row_and_one_key_for_all_attempts() {
    type Calls = Arc<Mutex<Vec<(String, String, String)>>>;
    let calls = Calls::default();
    let seen = Arc::clone(&calls);
    let answer = move |request: Request| {
        let seen = Arc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let header = |name: &str| parts.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
            let line = format!("{} {} {}", parts.method, header("content-type"), header("x-watchbell-attempt"));
            let body = String::from_utf8(body.to_vec()).unwrap();
            seen.lock().unwrap().push((line, header("idempotency-key"), body));
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(any(answer))).await });

    let url = format!("http://{address}/orders");
    let database = watched("http", &json!({"url": url})).await;
    let pool = &database.pool;
    let http = Http::new().allow(address.to_string().parse().unwrap());
    let worker = start(hand(pool, "one").handler("http", http));
    until_true(pool, "not exists (select from orders where status <> 'normal')", PATIENCE).await;
    let mut sent = std::mem::take(&mut *calls.lock().unwrap());
    sent.sort_by(|a, b| a.2.cmp(&b.2));
    assert_eq!((sent.len(), sent[0].0.as_str()), (2, "POST application/json 1"));
    assert!(sent[0].1.starts_with("orders:") && sent[0].1 != sent[1].1, "{sent:?}");
    // as the database wrote it, to the last digit
    assert!(sent.iter().any(|(.., body)| body.contains("12345678901234567890.10")), "{sent:?}");
    let row: Value = serde_json::from_str(&sent[1].2).unwrap();
    assert_eq!((&row["region"], &row["no"], &row["status"]), (&json!("us"), &json!(2), &json!("pending")));

    for (payload, line, body) in [
        (json!({"url": url, "method": "GET"}), "GET - 1", ""),
        (json!({"url": url, "body": {"own": 1}}), "POST application/json 1", "{\"own\":1}"),
    ] {
        sqlx::raw_sql("delete from watchbell.watches; update orders set status = 'pending'")
            .execute(pool)
            .await
            .unwrap();
        watch(pool, "http", &payload).await;
        until_true(pool, "not exists (select from orders where status <> 'normal')", PATIENCE).await;
        let sent = std::mem::take(&mut *calls.lock().unwrap());
        assert!(sent.iter().all(|(l, _, b)| (l.as_str(), b.as_str()) == (line, body)), "{sent:?}");
    }
    worker.stop().await;
    server.abort();
}

#[tokio::test]
async fn shell_reads_the_row_and_knows_where_it_comes_from() {
    let script = r#"
        test "$(cat)" = "$WATCHBELL_ROW" || exit 1
        test "$WATCHBELL_WATCH $WATCHBELL_STEP $WATCHBELL_ATTEMPT" = "orders pending 1" || exit 2
        test "${WATCHBELL_RUN_ID-none}" = none || exit 3
        case $WATCHBELL_IDEMPOTENCY_KEY in orders:*) ;; *) exit 4;; esac
        case "$WATCHBELL_KEY $WATCHBELL_ROW" in
            '["eu","1"]'*'"no": 1,'*) ;;
            '["us","2"]'*) exit 9;;
            *) exit 5;;
        esac"#;
    let database = watched("shell", &json!({"command": script})).await;
    let pool = &database.pool;
    let worker = start(hand(pool, "one").handler("shell", Shell::new().program("sh").program("cat").commands("sh")));
    until_true(pool, "not exists (select from orders where status not in ('normal', 'failed'))", PATIENCE).await;
    worker.stop().await;
    let ended = "select string_agg(region || ' ' || status, ', ' order by region) from orders";
    let said: Option<String> = sqlx::query_scalar("select string_agg(message, '; ') from watchbell.watch_errors")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(crate::support::ask::one::<String>(pool, ended).await, "eu normal, us failed", "{said:?}");
    assert!(said.unwrap_or_default().contains("exit code 9"));
}

#[tokio::test]
async fn sql_under_another_login_is_leased_and_sees_each_row_as_claimed() {
    let statement = "insert into bills select region, no, current_user, $1 from claimed";
    let payload = json!({"statement": statement, "args": ["x"], "as": "billing"});
    let database = watched("sql", &payload).await;
    let pool = &database.pool;
    sqlx::raw_sql("create table bills (region text, no int, by text, arg text)").execute(pool).await.unwrap();
    // another session of the same login: what counts is that it is not the transaction that moves the rows
    let billing = sqlx::postgres::PgPoolOptions::new().max_connections(2).connect_lazy(&database.url).unwrap();
    let sql = Sql::new(pool.clone()).login("billing", billing);
    let worker = start(hand(pool, "one").transactional("sql", sql));
    until_true(pool, "not exists (select from orders where status <> 'normal')", PATIENCE).await;
    let mode = "select plan -> 'steps' -> 0 ->> 'mode' from watchbell.watches";
    assert_eq!(crate::support::ask::one::<String>(pool, mode).await, "leased");
    let bills = "select string_agg(region || no || arg, ' ' order by no) from bills";
    assert_eq!(crate::support::ask::one::<String>(pool, bills).await, "eu1x us2x");
    worker.stop().await;
}

#[tokio::test]
async fn a_transactional_handler_may_be_leased_when_it_takes_long() {
    let database =
        watched("sql", &json!({"statement": "insert into bills select no from claimed, pg_sleep(0.1)"})).await;
    let pool = &database.pool;
    let asked = "create table bills (no int); update watchbell.watches set mode = 'leased'";
    sqlx::raw_sql(asked).execute(pool).await.unwrap();
    let worker = start(hand(pool, "one").transactional("sql", Sql::new(pool.clone())));
    until_true(pool, "not exists (select from orders where status <> 'normal')", PATIENCE).await;
    worker.stop().await;
    assert_eq!(crate::support::ask::one::<i64>(pool, "select sum(no) from bills").await, 3);
}

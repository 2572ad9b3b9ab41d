//! The ground other tests stand on: a database of their own.

use sqlx::{Connection, PgConnection};

use crate::support::Database;
use crate::support::database::with_database;

#[tokio::test]
async fn a_fresh_database_has_the_schema_and_an_ordinary_owner() {
    let database = Database::fresh().await;
    let tables: i64 = sqlx::query_scalar("select count(*) from pg_catalog.pg_tables where schemaname = 'watchbell'")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert!(tables > 3, "{tables} tables");
    let owner: bool = sqlx::query_scalar(
        "select pg_get_userbyid(datdba) = current_user from pg_database where datname = current_database()",
    )
    .fetch_one(&mut database.connect().await)
    .await
    .unwrap();
    assert!(owner);
    for mut way in [database.connect_admin().await, PgConnection::connect(&database.url).await.unwrap()] {
        let there: String = sqlx::query_scalar("select current_database()").fetch_one(&mut way).await.unwrap();
        assert!(database.url.contains(&there));
    }
}

#[tokio::test]
async fn an_empty_database_has_no_schema() {
    let database = Database::empty().await;
    let schema: bool =
        sqlx::query_scalar("select to_regnamespace('watchbell') is not null").fetch_one(&database.pool).await.unwrap();
    assert!(!schema);
}

#[tokio::test]
async fn a_database_is_dropped_with_its_test_even_while_connected() {
    let (name, admin_url) = {
        let database = Database::fresh().await;
        let mut left_open = database.connect().await;
        let name: String = sqlx::query_scalar("select current_database()").fetch_one(&mut left_open).await.unwrap();
        (name, with_database(&database.admin_url, "postgres"))
    };
    let mut admin = PgConnection::connect(&admin_url).await.unwrap();
    for _ in 0..500 {
        let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&name)
            .fetch_one(&mut admin)
            .await
            .unwrap();
        if !there {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{name} is still there");
}

#[test]
fn a_test_that_panics_still_drops_its_database() {
    let panicked = std::panic::catch_unwind(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let _database = Database::fresh().await;
            panic!("as a failing test does");
        });
    });
    assert!(panicked.is_err());
}

#[test]
fn the_database_of_an_address_is_exchanged() {
    assert_eq!(with_database("postgres://a:b@h:1/old?x=y", "new"), "postgres://a:b@h:1/new?x=y");
    assert_eq!(with_database("postgres://h", "new"), "postgres://h/new");
    assert_eq!(with_database("postgres://h/old?host=/run/x", "new"), "postgres://h/new?host=/run/x");
}

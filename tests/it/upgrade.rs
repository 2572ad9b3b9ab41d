//! The first schema is kept as a file: every later version must start from it, rows and all.
//!
//! `tests/data/schema/0.1.0.sql` is what `watchbell migrate sql` printed at the release of 0.1.0. A migration
//! that is edited after its release fails here, by its checksum.

use sqlx::AssertSqlSafe;
use watchbell::migrate;

use crate::support::Database;

const FIRST: &str = include_str!("../data/schema/0.1.0.sql");

#[tokio::test]
async fn the_first_schema_is_taken_to_the_present_with_its_rows() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    sqlx::raw_sql(AssertSqlSafe(FIRST)).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(
        "insert into watchbell.schedules (name, cron, handler) values ('nightly', '0 2 * * *', 'report');
         insert into watchbell.runs (handler, payload) values ('mail', '{\"to\": \"a@b.c\"}')",
    )
    .execute(&mut connection)
    .await
    .unwrap();

    migrate::up(&mut connection).await.unwrap();

    migrate::check(&mut connection).await.unwrap();
    let kept: (String, String) = sqlx::query_as(
        "select (select handler from watchbell.schedules where name = 'nightly'),
                (select payload ->> 'to' from watchbell.runs where handler = 'mail')",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(kept, ("report".to_owned(), "a@b.c".to_owned()));
}

//! The same code against PostgreSQL in a container, started by testcontainers.

use sqlx::{Connection, PgConnection};

use crate::support::{docker, skip_container};

#[tokio::test]
async fn a_container_serves_the_schema() {
    if let Err(reason) = docker::engine_answers().await {
        return skip_container(&reason);
    }
    let container = docker::postgres(&["-c", "fsync=off"]).await.unwrap();
    crate::support::database::install(&container.url).await;
    let mut connection = PgConnection::connect(&container.url).await.unwrap();
    let runs: i64 =
        sqlx::query_scalar("select count(*) from watchbell.runs_live").fetch_one(&mut connection).await.unwrap();
    assert_eq!(runs, 0);
    container.container.rm().await.unwrap();
}

//! Tables of people's own, and watches on them.

use std::time::Duration;

use watchbell::handler::sql::Sql;
use watchbell::worker::Builder;

use super::crew::{Running, hand, start};
use super::wait::until_true;
use super::{Database, Scene};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An empty table `hosts` with an index for its pending rows, and a table of effects.
pub const TABLES: &str =
    "create table hosts (id bigint primary key, name text, status text not null default 'pending', since timestamptz);
    create index hosts_pending on hosts (id) where status = 'pending';
    create table effects (host bigint not null, step text, worker text, at timestamptz default clock_timestamp())";

/// A table `hosts` with this many rows that are pending, an index for them, and a table of effects.
pub async fn hosts(rows: u32) -> Scene {
    let mut scene = Scene::new().await;
    scene.psql(TABLES).await;
    scene.psql(format!("insert into hosts (id, name) select i, 'host ' || i from generate_series(1, {rows}) i")).await;
    scene.psql("analyze hosts").await;
    scene
}

/// Inserts a watch by plain SQL: columns and their values as one would type them.
pub async fn watch(scene: &mut Scene, name: &str, columns: &str, values: &str) -> i64 {
    let insert = "set client_min_messages = error; insert into watchbell.watches (name, ";
    scene.psql(format!("{insert}{columns}) values ('{name}', {values})")).await;
    scene.value(format!("select id from watchbell.watches where name = '{name}'")).await
}

/// A worker in this process with the handler `sql`.
pub fn sql_hand(database: &Database, name: &str) -> Builder {
    hand(&database.pool, name).transactional("sql", Sql::new(database.pool.clone()))
}

/// Several of them at work.
pub fn sql_crew(database: &Database, workers: usize) -> Vec<Running> {
    (0..workers).map(|n| start(sql_hand(database, &format!("worker {n}")))).collect()
}

/// Lets workers go on until this condition holds, then ends them.
pub async fn work_until(database: &Database, workers: Vec<Running>, condition: &str) {
    until_true(&database.pool, condition, PATIENCE).await;
    for worker in workers {
        worker.stop().await;
    }
}

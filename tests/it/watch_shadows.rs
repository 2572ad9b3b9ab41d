//! Tables and columns that are called as the statements call theirs, or as one another.

use watchbell::{Context, HandlerResult, Row, Tx};

use crate::support::Scene;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, watch};

#[derive(serde::Deserialize)]
struct Named {
    id: i64,
    c: String,
}

fn tried(row: &Row<Named>) -> HandlerResult {
    assert_eq!(row.c, format!("row {}", row.id));
    if row.id == 1 { Err("not this one".into()) } else { Ok(()) }
}

#[tokio::test]
async fn a_table_called_like_an_alias_of_ours_is_worked_as_any_other() {
    for (mode, table) in
        [("transactional", "c"), ("leased", "c"), ("leased", "k"), ("leased", "t"), ("transactional", "b")]
    {
        let mut scene = Scene::new().await;
        scene
            .psql(format!(
                "create table {table} (id bigint primary key, c text, status text not null default 'pending')"
            ))
            .await;
        scene.psql(format!("create index on {table} (id) where status = 'pending'")).await;
        scene.psql(format!("insert into {table} select i, 'row ' || i from generate_series(1, 5) i")).await;
        let retry = r#"{"strategy": "fixed", "base": "1h", "jitter": false}"#;
        let columns = "table_name, handler, mode, retry";
        watch(&mut scene, "rows", columns, &format!("'{table}', '{mode}', '{mode}', '{retry}'")).await;
        let pool = scene.database.pool.clone();
        let worker = hand(&pool, "one")
            .transactional("transactional", async |_: Tx, row: Row<Named>| tried(&row))
            .handler("leased", async |row: Row<Named>, _: Context| tried(&row));
        let worker = start(worker);
        for id in 6..=8 {
            // each look at the new ones passes by the first, which waits for an hour
            until_true(&pool, &format!("(select count(*) = 1 from {table} where status <> 'normal')"), PATIENCE).await;
            scene.psql(format!("insert into {table} values ({id}, 'row {id}')")).await;
        }
        until_true(&pool, &format!("(select count(*) = 1 from {table} where status <> 'normal')"), PATIENCE).await;
        worker.stop().await;
        let tries: Vec<String> =
            scene.values("select format('%s %s: %s', key, attempt, message) from watchbell.watch_errors").await;
        assert_eq!(tries, ["{1} 1: not this one"], "{mode} {table}");
    }
}

//! Somebody holds an old snapshot while rows are worked, so that nothing that they leave behind can be cleared away:
//! what a row costs stays the same. Counted in pages that were looked at, not in time.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgPoolOptions;
use watchbell::handler::sql::Sql;
use watchbell::lifecycle::finish::Finished;
use watchbell::lifecycle::leased::{Became, Cursor, RowClaim, claim, finish};
use watchbell::run::transition::{Event, decide};
use watchbell::watch::{Plan, read};
use watchbell::{Context, Registry};

use crate::support::Scene;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

/// Rows that go through before there is a snapshot, and in each part of the work behind it.
const PART: i64 = 5_000;

/// What rows may cost behind the snapshot, as a multiple. It was 1.3 at most when this was written.
const MORE_MAX: f64 = 1.8;

const TABLES: [&str; 4] = ["hosts", "watch_claims", "watch_totals", "worker_batches"];

/// Pages looked at so far in these tables and their indexes, by sessions that have reported them.
async fn pages(scene: &mut Scene) -> Vec<i64> {
    let mut pages = vec![];
    for table in TABLES {
        let read = format!(
            "select (heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0))::bigint
             from pg_statio_user_tables where relname = '{table}'"
        );
        pages.push(scene.value(read).await);
    }
    pages
}

/// Pages for each of so many rows since then, in all tables; says how they are spread.
async fn pages_since(scene: &mut Scene, before: &[i64], rows: i64, what: &str) -> f64 {
    let each = |n: i64| n as f64 / rows as f64;
    let since: Vec<f64> = pages(scene).await.iter().zip(before).map(|(now, was)| each(now - was)).collect();
    let shown = TABLES.iter().zip(&since).map(|(table, pages)| format!("{table} {pages:.1}"));
    println!("pages a row, {what}: {}", shown.collect::<Vec<_>>().join(", "));
    since.iter().sum()
}

async fn insert(scene: &mut Scene, rows: i64) {
    let insert = "insert into hosts (id) select (select coalesce(max(id), 0) from hosts) + i from generate_series(1, ";
    scene.psql(format!("{insert}{rows}) i")).await;
}

/// Somebody's report, which takes long.
async fn old_snapshot(scene: &Scene) -> PgConnection {
    let mut person = scene.database.connect().await;
    let hold = "begin isolation level repeatable read; select count(*) from hosts";
    sqlx::raw_sql(hold).execute(&mut person).await.unwrap();
    person
}

/// Claims and ends so many rows, a hundred at a time; says what each cost.
async fn drain(
    scene: &mut Scene,
    (plan, worker): (&Arc<Plan>, i32),
    cursor: &mut Cursor,
    rows: i64,
    what: &str,
) -> f64 {
    let before = pages(scene).await;
    let mut sql = scene.connect().await;
    let mut moved = 0;
    while moved < rows {
        let claims = claim(&mut sql, plan, 0, worker, 100, cursor).await.unwrap();
        let ends = claims.rows.iter().map(|row| {
            Finished::of(row, Duration::ZERO, decide(row.standing(), Event::Succeeded, &Default::default()))
        });
        let ends: Vec<Finished> = ends.collect();
        let batch: Vec<(&RowClaim, &Finished)> = ends.iter().map(|end| (&**end.row.as_ref().unwrap(), end)).collect();
        let became = finish(&mut sql, &plan.steps[0], &batch).await.unwrap();
        assert!(became.iter().all(|became| *became == Became::Moved) && !became.is_empty(), "{became:?}");
        moved += became.len() as i64;
    }
    sqlx::query("select pg_stat_force_next_flush()").execute(&mut sql).await.unwrap();
    pages_since(scene, &before, rows, what).await
}

#[tokio::test]
async fn leased_rows_cost_the_same_behind_an_old_snapshot() {
    let mut scene = hosts(0).await;
    let id = watch(&mut scene, "hosts", "table_name, handler, via_state", "'hosts', 'work', 'working'").await;
    let watched = read::read(&mut scene.sql, id).await.unwrap().expect("the watch is there");
    let registry = Registry::new().handler("work", async |_: Context| {});
    let plan = Arc::new(Plan::of(&mut scene.sql, watched, &registry).await.unwrap());
    let worker = scene.worker("a", &["work"]).await.id();
    scene.psql("update watchbell.workers set lease_until = 'infinity'").await;

    insert(&mut scene, PART).await;
    let fresh = drain(&mut scene, (&plan, worker), &mut Cursor::default(), PART, "nobody looks").await;
    insert(&mut scene, 4 * PART).await;
    let person = old_snapshot(&scene).await;
    let mut cursor = Cursor::default();
    for part in 1..=4 {
        let what = format!("behind an old snapshot, part {part}");
        let behind = drain(&mut scene, (&plan, worker), &mut cursor, PART, &what).await;
        assert!(behind < MORE_MAX * fresh, "{behind:.1} pages a row, {fresh:.1} without the snapshot");
    }
    drop(person);
}

#[tokio::test]
async fn rows_in_transactions_cost_the_same_behind_an_old_snapshot() {
    let mut scene = hosts(0).await;
    let statement = r#"{"statement": "insert into effects (host) select id from claimed"}"#;
    watch(&mut scene, "hosts", "table_name, handler, payload", &format!("'hosts', 'sql', '{statement}'")).await;
    let mut costs = vec![];
    let mut person = None;
    for (rows, what) in [(PART, "nobody looks"), (3 * PART, "behind an old snapshot")] {
        insert(&mut scene, rows).await;
        if what != "nobody looks" {
            person = Some(old_snapshot(&scene).await);
        }
        let before = pages(&mut scene).await;
        let options = (*scene.database.pool.connect_options()).clone().application_name("drain");
        let own = PgPoolOptions::new().max_connections(6).connect_with(options).await.unwrap();
        let worker = start(hand(&own, "drains").transactional("sql", Sql::new(own.clone())));
        let over = "not exists (select from hosts where status = 'pending')";
        until_true(&scene.database.pool, over, PATIENCE).await;
        worker.stop().await;
        own.close().await;
        // what a session counted is known when it is gone
        let gone = "not exists (select from pg_stat_activity where datname = current_database() \
                                and (application_name = 'drain' or application_name like 'watchbell%'))";
        until_true(&scene.database.pool, gone, PATIENCE).await;
        costs.push(pages_since(&mut scene, &before, rows, what).await);
    }
    assert!(costs[1] < MORE_MAX * costs[0], "pages a row: {costs:?}");
    drop(person);
}

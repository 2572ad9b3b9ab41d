//! How many rows are in work, how fast they start, and when none may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use watchbell::{HandlerResult, Row, Rows, Tx};

use crate::support::crew::{hand, start};
use crate::support::wait::{until, until_true};
use crate::support::watched::{PATIENCE, hosts, sql_crew, sql_hand, watch, work_until};

#[derive(Debug, serde::Deserialize)]
struct Host {
    id: i64,
}

const INTO_EFFECTS: &str = r#"{"statement": "insert into effects (host) select id from claimed"}"#;

#[tokio::test]
async fn no_more_rows_are_in_work_than_may_be_over_all_workers() {
    let mut scene = hosts(60).await;
    watch(&mut scene, "hosts", "table_name, handler, batch_size, max_running", "'hosts', 'init', 2, 4").await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let workers = (0..3).map(|n| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        let init = move |_: Tx, hosts: Rows<Host>| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(hosts.len(), Ordering::SeqCst) + hosts.len(), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                now.fetch_sub(hosts.len(), Ordering::SeqCst);
                HandlerResult::Ok(())
            }
        };
        start(hand(&scene.database.pool, &format!("worker {n}")).transactional("init", init))
    });
    let workers = workers.collect();
    work_until(&scene.database, workers, "not exists (select from hosts where status = 'pending')").await;
    let most = most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at once");
}

#[tokio::test]
async fn rows_start_at_the_rate_of_all_workers_together() {
    let mut scene = hosts(90).await;
    let columns = "table_name, handler, payload, rate_limit, rate_period";
    watch(&mut scene, "hosts", columns, &format!("'hosts', 'sql', '{INTO_EFFECTS}', 30, '1 s'")).await;
    let workers = sql_crew(&scene.database, 3);
    work_until(&scene.database, workers, "not exists (select from hosts where status = 'pending')").await;
    // thirty at once, and two seconds for the others; the first may have started long after it was allowed to
    let took = "select extract(epoch from max(at) - min(at))::float8 from effects";
    let took = scene.value::<f64>(took).await;
    assert!(took > 1.5, "90 rows in {took} s");
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, 90);
}

#[tokio::test]
async fn a_paused_watch_takes_nothing_until_it_resumes() {
    let mut scene = hosts(50).await;
    scene.psql("create table others (id bigint primary key, status text not null default 'pending'); insert into others select generate_series(1, 50)").await;
    watch(&mut scene, "hosts", "table_name, handler, payload", &format!("'hosts', 'sql', '{INTO_EFFECTS}'")).await;
    watch(&mut scene, "others", "table_name, handler, payload", r#"'others', 'sql', '{"statement": "select 1"}'"#)
        .await;
    scene.psql("update watchbell.watches set paused_at = now() where name = 'hosts'").await;
    let workers = sql_crew(&scene.database, 1);
    until_true(&scene.database.pool, "not exists (select from others where status = 'pending')", PATIENCE).await;
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, 0);
    scene
        .psql("update watchbell.watches set paused_until = clock_timestamp() + interval '1 s' where name = 'hosts'")
        .await;
    until_true(
        &scene.database.pool,
        "(select paused_at is null from watchbell.watches where name = 'hosts')",
        PATIENCE,
    )
    .await;
    work_until(&scene.database, workers, "(select count(*) from effects) = 50").await;
}

#[tokio::test]
async fn an_open_batch_is_finished_when_its_worker_drains() {
    let mut scene = hosts(5).await;
    watch(&mut scene, "hosts", "table_name, handler, batch_size", "'hosts', 'init', 1").await;
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (Arc::clone(&began), Arc::clone(&go));
    let init = move |mut tx: Tx, host: Row<Host>| {
        let (begins, goes) = (Arc::clone(&begins), Arc::clone(&goes));
        async move {
            begins.notify_one();
            goes.notified().await;
            sqlx::query("insert into effects (host) values ($1)").bind(host.id).execute(&mut *tx).await?;
            HandlerResult::Ok(())
        }
    };
    let worker = start(hand(&scene.database.pool, "one").transactional("init", init));
    began.notified().await;
    worker.shut_down();
    until_true(&scene.database.pool, "exists (select from watchbell.workers where state = 'draining')", PATIENCE).await;
    // those that were taken together with it, if any, go on as well
    let pass = async || {
        go.notify_one();
        worker.has_ended().then_some(())
    };
    until("it drains", PATIENCE, pass).await;
    worker.ended().await.unwrap();
    let moved = scene.value::<i64>("select count(*) from hosts where status = 'normal'").await;
    assert!(moved >= 1, "none was moved on");
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, moved);
}

#[tokio::test]
async fn a_watch_whose_table_is_locked_or_gone_disturbs_no_other() {
    let mut scene = hosts(100).await;
    for table in ["locked", "gone"] {
        scene.psql(format!("create table {table} (id bigint primary key, status text not null default 'pending'); insert into {table} values (1)")).await;
        watch(
            &mut scene,
            table,
            "table_name, handler, payload",
            &format!(r#"'{table}', 'sql', '{{"statement": "select 1"}}'"#),
        )
        .await;
    }
    watch(&mut scene, "hosts", "table_name, handler, payload", &format!("'hosts', 'sql', '{INTO_EFFECTS}'")).await;
    scene.psql("drop table gone").await;
    let mut person = scene.connect().await;
    sqlx::raw_sql("begin; lock table locked in access exclusive mode").execute(&mut person).await.unwrap();
    let workers = vec![start(sql_hand(&scene.database, "one"))];
    until_true(&scene.database.pool, "(select count(*) from effects) = 100", PATIENCE).await;
    sqlx::raw_sql("commit").execute(&mut person).await.unwrap();
    work_until(&scene.database, workers, "(select status = 'normal' from locked)").await;
    assert_eq!(
        scene.value::<String>("select error from watchbell.watches where name = 'gone'").await,
        "table_name: table public.gone does not exist"
    );
}

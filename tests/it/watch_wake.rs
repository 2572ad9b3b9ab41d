//! A new row of a watched table with the trigger is seen at once, whatever else its worker does.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;
use watchbell::handler::sql::Sql;

use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

/// How soon, on a machine that is busy with other tests. The rest that it ends would last 4 s more.
const SOON: f64 = 2.0;

#[tokio::test]
async fn a_worker_busy_with_runs_sees_a_new_row_at_once() {
    let mut scene = hosts(0).await;
    let payload = r#"{"statement": "insert into effects (host) select id from claimed"}"#;
    let columns = "table_name, handler, payload, poll_interval";
    watch(&mut scene, "hosts", columns, &format!("'hosts', 'sql', '{payload}', '30 s'")).await;
    assert!(scene.value::<bool>("select watchbell.wake_watch('hosts')").await);
    let options = (*scene.database.pool.connect_options()).clone().application_name("rows");
    let rows = PgPoolOptions::new().max_connections(4).connect_with(options).await.unwrap();
    let worker =
        start(hand(&rows, "busy").transactional("sql", Sql::new(rows.clone())).handler("mail", || async move {}));
    let (enough, pool) = (CancellationToken::new(), scene.database.pool.clone());
    let stop = enough.clone();
    let runs = tokio::spawn(async move {
        while !stop.is_cancelled() {
            sqlx::query("insert into watchbell.runs (handler) values ('mail')").execute(&pool).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await; // the pace of the load
        }
    });
    // looks come ever more seldom: after 6 s of silence the next is 4 s away
    let rests = "exists (select from watchbell.watch_sleepers where sleepers_until > clock_timestamp()) \
         and exists (select from pg_stat_activity where datname = current_database() and application_name = 'rows') \
         and not exists (select from pg_stat_activity where datname = current_database() and application_name = 'rows' \
                         and (state <> 'idle' or state_change > clock_timestamp() - interval '6 s'))";
    until_true(&scene.database.pool, rests, PATIENCE).await;
    scene.psql("update watchbell.queues set sleepers_until = '-infinity'").await;
    scene.psql("insert into hosts (id, name, since) values (1, 'one', clock_timestamp())").await;
    until_true(&scene.database.pool, "exists (select from effects)", PATIENCE).await;
    let lag = "select extract(epoch from e.at - h.since)::float8 from effects e join hosts h on h.id = e.host";
    let lag: f64 = scene.value(lag).await;
    println!("seen after {lag:.3} s");
    assert!(lag < SOON, "{lag} s");
    enough.cancel();
    runs.await.unwrap();
    worker.stop().await;
}

#[tokio::test]
async fn workers_that_claim_by_way_of_a_state_let_one_another_sleep() {
    let mut scene = hosts(0).await;
    let columns = "table_name, handler, via_state, poll_interval";
    watch(&mut scene, "hosts", columns, "'hosts', 'work', 'working', '30 s'").await;
    assert!(scene.value::<bool>("select watchbell.wake_watch('hosts')").await);
    let pool = &scene.database.pool;
    let workers: Vec<_> = ["a", "b"].map(|name| start(hand(pool, name).handler("work", || async move {}))).into();
    let session =
        "select from pg_stat_activity where datname = current_database() and application_name = 'watchbell watch'";
    let rest =
        format!("exists ({session}) and not exists ({session} and state_change > clock_timestamp() - interval '2 s')");
    until_true(pool, &rest, PATIENCE).await;
    // and a row of somebody's still wakes them
    let before = std::time::Instant::now();
    sqlx::query("insert into hosts (id) values (1)").execute(pool).await.unwrap();
    until_true(pool, "exists (select from hosts where status = 'normal')", PATIENCE).await;
    println!("seen after {:?}", before.elapsed());
    for worker in workers {
        worker.stop().await;
    }
}

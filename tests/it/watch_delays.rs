//! What is to come in a million years, or never.

use watchbell::watch::read;
use watchbell::{Context, Outcome, Row, Tx, seconds, snooze};

use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
}

fn far(host: &Host) -> Outcome {
    if host.id == 1 { snooze(seconds(1 << 44)) } else { Outcome::Done }
}

#[tokio::test]
async fn a_row_that_snoozes_beyond_all_time_holds_up_no_other() {
    for mode in ["transactional", "leased"] {
        let mut scene = hosts(5).await;
        watch(&mut scene, "hosts", "table_name, handler", &format!("'hosts', '{mode}'")).await;
        let pool = scene.database.pool.clone();
        let worker = hand(&pool, "one")
            .transactional("transactional", async |_: Tx, host: Row<Host>| far(&host))
            .handler("leased", async |host: Row<Host>, _: Context| far(&host));
        let worker = start(worker);
        let waits = "(select count(*) = 4 from hosts where status = 'normal')
            and exists (select from watchbell.watch_claims where claimed_by is null and due_at > now() + interval '99 years')";
        until_true(&pool, waits, PATIENCE).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_run_that_snoozes_beyond_all_time_waits_for_a_hundred_years() {
    let mut scene = hosts(0).await;
    let pool = scene.database.pool.clone();
    let worker = start(hand(&pool, "one").handler("far", async |_: Context| snooze(seconds(1 << 44))));
    scene.psql("insert into watchbell.runs (handler) values ('far')").await;
    let waits = "exists (select from watchbell.runs where status = 'pending' and run_at > now() + interval '99 years')";
    until_true(&pool, waits, PATIENCE).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_watch_that_is_paused_until_infinity_is_paused() {
    let mut scene = hosts(0).await;
    let id = watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'init'").await;
    scene.psql("update watchbell.watches set paused_at = now(), paused_until = 'infinity'").await;
    let watch = read::read(&mut scene.sql, id).await.unwrap().expect("the watch is there");
    assert_eq!((watch.paused, watch.paused_for), (true, None));
}

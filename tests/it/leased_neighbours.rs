//! Whatever is wrong with one row, or with one watch, is nobody else's trouble.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};
use watchbell::worker::Builder;
use watchbell::{Context, Row};

use crate::support::Scene;
use crate::support::crew::{Running, hand, hand_on_short_lease, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
}

async fn done(pool: &PgPool, rows: &str) {
    until_true(pool, &format!("not exists (select from hosts where status <> 'normal' and {rows})"), PATIENCE).await;
}

/// A worker at work, whose handler tells that row 1 has begun and waits there until it may go on.
fn waiting(worker: Builder) -> (Running, Arc<Notify>, Arc<Semaphore>) {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (tell, gate) = (Arc::clone(&begun), Arc::clone(&go_on));
    let init = move |host: Row<Host>| {
        let (tell, gate) = (Arc::clone(&tell), Arc::clone(&gate));
        async move {
            if host.id == 1 {
                tell.notify_one();
                let _ = gate.acquire().await;
            }
        }
    };
    (start(worker.handler("init", init)), begun, go_on)
}

/// The number of a worker that is long dead.
async fn ghost(scene: &mut Scene) -> i32 {
    let ghost = scene.worker("ghost", &[]).await.id();
    scene.psql(format!("update watchbell.workers set state = 'dead' where id = {ghost}")).await;
    ghost
}

#[tokio::test]
async fn a_row_that_its_table_does_not_let_go_to_via_is_given_up_and_the_others_are_worked() {
    let mut scene = hosts(40).await;
    let retry = r#"{"strategy": "fixed", "base": "10ms", "jitter": false}"#;
    let columns = "table_name, handler, via_state, max_attempts, retry";
    watch(&mut scene, "hosts", columns, &format!("'hosts', 'init', 'working', 2, '{retry}'")).await;
    scene.psql("alter table hosts add check (id not in (1, 17) or status <> 'working')").await;
    let pool = scene.database.pool.clone();
    let worker = start(hand(&pool, "one").handler("init", async |_: Context| {}));
    done(&pool, "id not in (1, 17)").await;
    until_true(&pool, "(select count(*) = 2 from hosts where status = 'failed')", PATIENCE).await;
    worker.stop().await;
    let told = "select format('%s %s: %s', key[1], attempt, left(message, 33)) from watchbell.watch_errors order by 1";
    let said = |row: i64, attempt: i64| format!("{row} {attempt}: could not be moved to \"working\": ");
    assert_eq!(scene.values::<String>(told).await, [said(1, 1), said(1, 2), said(17, 1), said(17, 2)]);
    let counted = "select array[sum(done), sum(retried), sum(failed)]::bigint[] from watchbell.watch_totals";
    assert_eq!(scene.value::<Vec<i64>>(counted).await, [38, 2, 2]);
}

#[tokio::test]
async fn claims_of_the_dead_that_cannot_be_ended_keep_no_other_watch_from_its_own() {
    let mut scene = hosts(1).await;
    scene.psql("create table gone (id bigint primary key, status text not null default 'pending')").await;
    let gone = watch(&mut scene, "gone", "table_name, handler", "'gone', 'init'").await;
    let id = watch(&mut scene, "hosts", "table_name, handler, via_state", "'hosts', 'init', 'working'").await;
    let ghost = ghost(&mut scene).await;
    let claim = "insert into watchbell.watch_claims (watch_id, key, step, claimed_by, fence, attempt)";
    scene
        .psql(format!("{claim} select {gone}, array[i::text], 'pending', {ghost}, 1, 1 from generate_series(1, 450) i"))
        .await;
    scene.psql(format!("{claim} values ({id}, '{{1}}', 'pending', {ghost}, 1, 1)")).await;
    scene.psql("update hosts set status = 'working'; drop table gone").await;
    let pool = scene.database.pool.clone();
    let worker = start(hand(&pool, "one").handler("init", async |_: Context| {}));
    until_true(&pool, "exists (select from watchbell.watches where name = 'gone' and status = 'invalid')", PATIENCE)
        .await;
    look_around(&mut scene).await;
    done(&pool, "true").await;
    worker.stop().await;
}

/// A death, upon which live workers look for what is nobody's.
async fn look_around(scene: &mut Scene) {
    let late = scene.worker("late", &[]).await.id();
    let past = "now() - interval '1 hour'";
    scene
        .psql(format!("update watchbell.workers set heartbeat_at = {past}, lease_until = {past} where id = {late}"))
        .await;
}

#[tokio::test]
async fn one_row_that_its_table_refuses_keeps_no_other_with_a_dead_worker() {
    let mut scene = hosts(20).await;
    let columns = "table_name, handler, via_state, max_attempts";
    let id = watch(&mut scene, "hosts", columns, "'hosts', 'init', 'working', 1").await;
    let ghost = ghost(&mut scene).await;
    let claim = "insert into watchbell.watch_claims (watch_id, key, step, claimed_by, fence, attempt)";
    scene
        .psql(format!("{claim} select {id}, array[i::text], 'pending', {ghost}, 1, 1 from generate_series(1, 20) i"))
        .await;
    scene.psql("update hosts set status = 'working'").await;
    scene.psql("alter table hosts add check (id <> 7 or status <> 'failed')").await;
    let pool = scene.database.pool.clone();
    let worker = start(hand(&pool, "one").handler("init", async |_: Context| {}));
    until_true(&pool, "exists (select from watchbell.watches where status = 'normal')", PATIENCE).await;
    look_around(&mut scene).await;
    until_true(&pool, "(select count(*) = 19 from hosts where status = 'failed')", PATIENCE).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_found_while_another_rows_end_waits_for_a_person() {
    let mut scene = hosts(3).await;
    let id = watch(&mut scene, "hosts", "table_name, handler, via_state", "'hosts', 'init', 'working'").await;
    let pool = scene.database.pool.clone();
    let (worker, begun, go_on) = waiting(hand_on_short_lease(&pool, "one"));
    begun.notified().await;
    done(&pool, "id > 1").await;
    let mut person = scene.database.connect().await;
    sqlx::raw_sql("begin; update hosts set name = 'mine' where id = 1").execute(&mut person).await.unwrap();
    go_on.add_permits(1);
    // as a claim leaves it whose reply never came
    let me = "(select id from watchbell.workers where name = 'one')";
    let claim = "insert into watchbell.watch_claims (watch_id, key, step, claimed_by, claimed_at, fence, attempt)";
    scene
        .psql(format!(
            "update hosts set status = 'working' where id = 3;
        {claim} values ({id}, '{{3}}', 'pending', {me}, now(), 1, 1)"
        ))
        .await;
    look_around(&mut scene).await;
    done(&pool, "id = 3").await;
    assert_eq!(scene.value::<String>("select status from hosts where id = 1").await, "working");
    sqlx::raw_sql("rollback").execute(&mut person).await.unwrap();
    done(&pool, "true").await;
    worker.stop().await;
    assert_eq!(scene.value::<i64>("select sum(changed)::bigint from watchbell.watch_totals").await, 0);
}

#[tokio::test]
async fn rows_of_one_watch_wake_no_other() {
    let mut scene = hosts(2000).await;
    scene
        .psql(
            "create sequence looks; create table idle (id bigint primary key, status text not null default 'pending')",
        )
        .await;
    scene.psql("create index on idle (id) where status = 'pending'; insert into idle values (1)").await;
    // a row that is looked at and never taken
    let columns = "table_name, handler, filter, poll_interval";
    watch(&mut scene, "idle", columns, "'idle', 'init', 'nextval(''looks'') < 0', '1 day'").await;
    watch(&mut scene, "hosts", "table_name, handler, via_state", "'hosts', 'init', 'working'").await;
    let pool = scene.database.pool.clone();
    let worker = start(hand(&pool, "one").handler("init", async |_: Context| {}));
    done(&pool, "true").await;
    worker.stop().await;
    let looks: i64 = scene.value("select last_value from looks").await;
    assert!(looks < 50, "the idle watch was looked at {looks} times");
}

#[tokio::test]
async fn the_end_of_a_row_whose_table_is_dropped_waits_for_nothing() {
    let mut scene = hosts(1).await;
    watch(&mut scene, "hosts", "table_name, handler, via_state", "'hosts', 'init', 'working'").await;
    let pool = scene.database.pool.clone();
    let (worker, begun, go_on) = waiting(hand(&pool, "one"));
    begun.notified().await;
    scene.psql("select watchbell.unwatch('hosts'); drop table hosts").await;
    go_on.add_permits(1);
    until_true(&pool, "not exists (select from watchbell.watch_claims where claimed_by is not null)", PATIENCE).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_row_whose_state_of_work_was_renamed_gives_its_slot_back_and_can_be_released() {
    let mut scene = hosts(1).await;
    scene
        .psql(
            "drop index hosts_pending; create type state as enum ('pending', 'working', 'normal', 'failed'); \
             alter table hosts alter status drop default, alter status type state using status::state",
        )
        .await;
    watch(&mut scene, "hosts", "table_name, handler, via_state", "'hosts', 'init', 'working'").await;
    let pool = scene.database.pool.clone();
    let (worker, begun, go_on) = waiting(hand(&pool, "one"));
    begun.notified().await;
    scene.psql("alter type state rename value 'working' to 'busy'").await;
    scene.psql("update watchbell.watches set via_state = 'busy'").await;
    go_on.add_permits(1);
    until_true(&pool, "not exists (select from watchbell.watch_claims where claimed_by is not null)", PATIENCE).await;
    assert_eq!(scene.value::<i64>("select watchbell.release_rows('hosts')").await, 1);
    done(&pool, "true").await;
    worker.stop().await;
}

//! What a deleted watch leaves at a state of work is put back if its worker died, and told if nobody had it.

use chrono::TimeDelta;
use watchbell::client;
use watchbell::lifecycle::leased::{forget, settle_remains};

use crate::logs::Told;
use crate::support::Scene;
use crate::support::commands::Place;
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

/// Four hosts at `busy`: 1 and 2 are claimed by worker 7, 3 and 4 nobody knows of; 5 is pending. And their watch is gone.
async fn gone(worker: &str) -> Scene {
    let mut scene = hosts(5).await;
    let columns = "table_name, handler, via_state, since_column";
    let id = watch(&mut scene, "hosts", columns, "'public.hosts', 'init', 'busy', 'since'").await;
    scene
        .psql(format!(
            "update hosts set status = 'busy' where id < 5;
             insert into watchbell.workers (id, name, host, pid, version, slots, state, lease_until, ended_at)
             overriding system value
             values (7, 'w', 'h', 1, '1', 1, '{worker}', watchbell.clock() + interval '1 day',
                     case when '{worker}' = 'dead' then watchbell.clock() end);
             insert into watchbell.watch_claims (watch_id, key, step, claimed_by)
             values ({id}, '{{1}}', 'pending', 7), ({id}, '{{2}}', 'pending', 7)"
        ))
        .await;
    client::unwatch(&mut scene.sql, "hosts").await.unwrap();
    scene
}

const BUSY: &str = "select coalesce(string_agg(id::text, ' ' order by id), '') from hosts where status = 'busy'";
const LEFT: &str =
    "select (select count(*) from watchbell.watch_remains) + (select count(*) from watchbell.watch_faults)
                         + (select count(*) from watchbell.watch_claims)";

async fn told(scene: &mut Scene) -> Vec<String> {
    let said =
        "select concat_ws(' ', severity, kind, subject || ';', reason, '$', command) from watchbell.attention_watches
                where kind = 'stuck'";
    scene.values(said).await
}

#[tokio::test]
async fn what_a_dead_worker_had_goes_back_and_the_rest_is_told() {
    let mut scene = gone("dead").await;
    // somebody has one locked
    let mut other = scene.connect().await;
    sqlx::raw_sql("begin; select from hosts where id = 2 for update").execute(&mut other).await.unwrap();
    assert_eq!(settle_remains(&mut scene.sql, false).await.unwrap(), 1);
    assert!(forget(&mut scene.sql).await.unwrap());
    assert_eq!(scene.value::<String>(BUSY).await, "2 3 4");
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    assert_eq!(settle_remains(&mut scene.sql, true).await.unwrap(), 1);
    assert_eq!(scene.value::<String>(BUSY).await, "3 4");
    let back = "select count(*) from hosts where status = 'pending' and since is not null";
    assert_eq!(scene.value::<i64>(back).await, 2, "the moment of the move, as at any other");
    let all = "critical stuck hosts; 2 rows of public.hosts stand at \"busy\" and no worker has them, since this watch was \
               deleted: put them back by an UPDATE $ \
               psql -c \"UPDATE public.hosts SET status = 'pending' WHERE status = 'busy'\"";
    assert_eq!(told(&mut scene).await, [all]);

    scene.psql("UPDATE public.hosts SET status = 'pending' WHERE status = 'busy'").await;
    assert_eq!(settle_remains(&mut scene.sql, true).await.unwrap(), 0);
    assert_eq!(told(&mut scene).await, [""; 0]);
    assert_eq!(scene.value::<i64>(LEFT).await, 0, "nothing is kept of it");
}

#[tokio::test]
async fn what_a_live_worker_has_stays_until_it_dies() {
    let mut scene = gone("running").await;
    assert_eq!(settle_remains(&mut scene.sql, true).await.unwrap(), 0);
    assert!(forget(&mut scene.sql).await.unwrap());
    assert_eq!(scene.value::<String>(BUSY).await, "1 2 3 4");
    assert!(told(&mut scene).await[0].contains("2 rows of public.hosts"), "the others");
    // it ends one, and dies
    scene
        .psql("update hosts set status = 'normal' where id = 1; delete from watchbell.watch_claims where key = '{1}'")
        .await;
    scene.psql("update watchbell.workers set state = 'dead', ended_at = watchbell.clock()").await;
    assert_eq!(settle_remains(&mut scene.sql, true).await.unwrap(), 1);
    assert_eq!(scene.value::<String>(BUSY).await, "3 4");
}

#[tokio::test]
async fn a_watch_of_today_that_knows_the_state_tells_it_alone() {
    let mut scene = gone("dead").await;
    watch(&mut scene, "again", "table_name, handler, via_state", "'public.hosts', 'init', 'busy'").await;
    assert_eq!(settle_remains(&mut scene.sql, true).await.unwrap(), 2);
    scene.psql("select watchbell.find_watch_faults(id) from watchbell.watches").await;
    let said = told(&mut scene).await;
    assert!(said.len() == 1 && said[0].contains("watchbell watch release again"), "{said:?}");
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_remains").await, 0);
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_told_for_a_week() {
    let mut scene = gone("dead").await;
    scene.psql("alter table hosts drop column id cascade; alter table hosts add id text primary key default gen_random_uuid()").await;
    scene
        .psql("create function no() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$")
        .await;
    scene.psql("create trigger no before update on hosts for each row execute function no()").await;
    scene.psql("update watchbell.watch_claims set key = array[(select h.id from hosts h where h.name = 'host ' || key[1])]").await;
    assert_eq!(settle_remains(&mut scene.sql, true).await.unwrap(), 0);
    assert!(forget(&mut scene.sql).await.unwrap());
    let said = told(&mut scene).await;
    assert!(said.iter().any(|said| said.contains("could not be looked at: not now")), "{said:?}");
    scene.advance(TimeDelta::days(8)).await;
    assert_eq!(settle_remains(&mut scene.sql, true).await.unwrap(), 0);
    assert_eq!(told(&mut scene).await, [""; 0]);
}

#[tokio::test]
async fn a_watch_without_a_state_of_work_leaves_nothing() {
    let mut scene = hosts(1).await;
    watch(&mut scene, "hosts", "table_name, handler", "'public.hosts', 'init'").await;
    scene.psql("delete from watchbell.watches").await;
    assert_eq!(scene.value::<i64>(LEFT).await, 0);
}

#[tokio::test]
async fn a_worker_that_dies_after_its_watch_was_deleted_loses_no_row() {
    let mut scene = hosts(1).await;
    let values = r#"'public.hosts', 'shell', '{"argv": ["sh", "-c", "sleep 60"]}', 'busy'"#;
    watch(&mut scene, "hosts", "table_name, handler, payload, via_state", values).await;
    let (place, shell) = (Place::new(), ["--enable-shell", "--shell-programs", "sh"]);
    let (dead, judge) = (Told::by(&place, "dead"), Told::by(&place, "judge"));
    let victim = dead.worker("info", &scene.database.url, &shell);
    until_true(&scene.database.pool, "exists (select from hosts where status = 'busy')", PATIENCE).await;
    client::unwatch(&mut scene.sql, "hosts").await.unwrap();
    // the other one has never seen the watch, and has one of its own
    scene.psql("create table others (id bigint primary key, status text not null default 'pending')").await;
    let values = r#"'public.others', 'shell', '{"argv": ["sh", "-c", "true"]}'"#;
    watch(&mut scene, "others", "table_name, handler, payload", values).await;
    let other = judge.worker("debug", &scene.database.url, &shell);
    judge.until_said("planned").await;
    drop(victim); // as by kill -9
    until_true(&scene.database.pool, "exists (select from hosts where status = 'pending')", PATIENCE).await;
    judge.until_said("rows of deleted watches put back").await;
    drop(other);
}

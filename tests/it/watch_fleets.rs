//! Watches in fleets whose workers differ: who may judge a step, whose word stands, and what the watch says meanwhile.

use chrono::TimeDelta;
use watchbell::lifecycle::watch_plan::{Found, Planner, Written, plan};
use watchbell::watch::plan::TRANSACTION_MAX;
use watchbell::{Registry, Tx};

use crate::support::Scene;
use crate::support::crew::{hand, start};
use crate::support::scene::Worker;
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

const TAKES_NONE: &str = "mode: transactional, but the handler \"call\" takes no transaction; use auto or leased";

/// Without the handler of any watch.
fn bare() -> Registry {
    Registry::new().handler("else", async || {})
}

/// With `call`, which takes no transaction.
fn plain() -> Registry {
    Registry::new().handler("call", async || {})
}

/// With `call`, which takes one.
fn transactional() -> Registry {
    Registry::new().transactional("call", async |_: Tx| {})
}

/// One worker plans the watch, because it is due.
async fn plans(scene: &mut Scene, id: i64, worker: &Worker, registry: &Registry) -> (Found, Written) {
    let planner = Planner { worker: worker.id(), registry, transaction_max: TRANSACTION_MAX };
    plan(&mut scene.sql, id, &planner, true).await.unwrap()
}

async fn status(scene: &mut Scene) -> String {
    scene.value("select concat_ws(': ', status, error) from watchbell.watches where name = 'hosts'").await
}

/// A watch in transactional mode.
async fn transactional_watch(scene: &mut Scene) -> i64 {
    watch(scene, "hosts", "table_name, handler, mode", "'hosts', 'call', 'transactional'").await
}

#[tokio::test]
async fn who_lacks_the_handler_neither_makes_a_watch_normal_nor_invalid() {
    let mut scene = hosts(1).await;
    let id = transactional_watch(&mut scene).await;
    let (has, lacks) = (scene.worker("has", &["call"]).await, scene.worker("lacks", &["else"]).await);
    let (_, written) = plans(&mut scene, id, &lacks, &bare()).await;
    assert_eq!((written, status(&mut scene).await.as_str()), (Written::Stands, "pending"), "who knows it comes later");
    let invalid = format!("invalid: {TAKES_NONE}");
    for turned in [Written::Turned(Some(TAKES_NONE.to_owned())), Written::Stands, Written::Stands] {
        let (found, written) = plans(&mut scene, id, &has, &plain()).await;
        assert!(matches!(found, Found::Invalid(_)), "{found:?}");
        assert_eq!((written, &status(&mut scene).await), (turned, &invalid));
        let (found, _) = plans(&mut scene, id, &lacks, &bare()).await;
        assert!(matches!(found, Found::Invalid(_)), "{found:?}");
        assert_eq!(status(&mut scene).await, invalid);
    }
    // nor when the one that knows is gone
    scene.psql(format!("update watchbell.workers set state = 'stopped' where id = {}", has.id())).await;
    scene.advance(TimeDelta::hours(1)).await;
    plans(&mut scene, id, &lacks, &bare()).await;
    assert_eq!(status(&mut scene).await, invalid);
    // an edit begins anew
    scene.psql("update watchbell.watches set mode = 'auto'").await;
    plans(&mut scene, id, &lacks, &bare()).await;
    assert_eq!(status(&mut scene).await, "normal");
    let reason = "select plan -> 'steps' -> 0 ->> 'reason' from watchbell.watches";
    let said = "no worker that has the handler \"call\" has planned it yet";
    assert_eq!(scene.value::<String>(reason).await, said);
}

#[tokio::test]
async fn each_step_is_judged_by_whoever_has_its_handler() {
    let mut scene = hosts(1).await;
    let steps = |mode| {
        format!(
            r#"'[{{"from": "pending", "to": "a", "handler": "first"}}, {{"from": "a", "to": "normal", "handler": "call", "mode": "{mode}"}}]'"#
        )
    };
    let values = format!("'hosts', {}", steps("transactional"));
    let id = watch(&mut scene, "hosts", "table_name, transitions", &values).await;
    let first = Registry::new().handler("first", async || {});
    let (a, b) = (scene.worker("a", &["first"]).await, scene.worker("b", &["call"]).await);
    let (found, _) = plans(&mut scene, id, &a, &first).await;
    assert!(matches!(found, Found::Planned(_)), "{found:?}");
    assert_eq!(status(&mut scene).await, "pending", "of the second step nobody has said anything");
    for _ in 0..2 {
        plans(&mut scene, id, &b, &plain()).await;
        assert_eq!(status(&mut scene).await, format!("invalid: step 2: {TAKES_NONE}"));
        let (found, _) = plans(&mut scene, id, &a, &first).await;
        assert!(matches!(found, Found::Invalid(_)), "what is invalid is worked by nobody: {found:?}");
        assert_eq!(status(&mut scene).await, format!("invalid: step 2: {TAKES_NONE}"));
    }
    scene.psql(format!("update watchbell.watches set transitions = {}", steps("auto"))).await;
    plans(&mut scene, id, &b, &plain()).await;
    plans(&mut scene, id, &a, &first).await;
    assert_eq!(status(&mut scene).await, "normal");
    let modes = "select array(select concat(s ->> 'mode', ' by ', s ->> 'worker') from jsonb_array_elements(plan -> 'steps') s) from watchbell.watches";
    let expected = [format!("leased by {}", a.id()), format!("leased by {}", b.id())];
    assert_eq!(scene.value::<Vec<String>>(modes).await, expected);
}

#[tokio::test]
async fn of_two_versions_that_disagree_the_one_that_can_work_is_right_while_it_lives() {
    let mut scene = hosts(1).await;
    let id = transactional_watch(&mut scene).await;
    let (old, new) = (scene.worker("old", &["call"]).await, scene.worker("new", &["call"]).await);
    plans(&mut scene, id, &old, &plain()).await;
    assert_eq!(status(&mut scene).await, format!("invalid: {TAKES_NONE}"));
    let (_, written) = plans(&mut scene, id, &new, &transactional()).await;
    assert_eq!((written, status(&mut scene).await.as_str()), (Written::Turned(None), "normal"));
    for _ in 0..3 {
        let (found, written) = plans(&mut scene, id, &old, &plain()).await;
        assert_eq!(found.unable(), Some((id, "hosts", TAKES_NONE)), "it says so itself");
        assert_eq!((written, status(&mut scene).await.as_str()), (Written::Stands, "normal"));
        let (found, written) = plans(&mut scene, id, &new, &transactional()).await;
        assert_eq!((found.unable(), written), (None, Written::Stands));
    }
    // the one that can ends; a third one can too, and has two minutes to say so
    let third = scene.worker("third", &["call"]).await;
    scene.psql(format!("update watchbell.workers set state = 'stopped' where id = {}", new.id())).await;
    plans(&mut scene, id, &old, &plain()).await;
    assert_eq!(status(&mut scene).await, "normal");
    plans(&mut scene, id, &third, &transactional()).await;
    let speaker = "select (plan -> 'steps' -> 0 ->> 'worker')::integer from watchbell.watches";
    assert_eq!(scene.value::<i32>(speaker).await, third.id());
    // nobody is left who can
    scene.psql(format!("update watchbell.workers set state = 'dead' where id = {}", third.id())).await;
    plans(&mut scene, id, &old, &plain()).await;
    assert_eq!(status(&mut scene).await, format!("invalid: {TAKES_NONE}"));
}

#[tokio::test]
async fn a_login_that_may_not_read_the_table_speaks_for_itself() {
    let mut scene = hosts(1).await;
    let id = watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'call'").await;
    let (may, lacks) = (scene.worker("may", &["call"]).await, scene.worker("lacks", &["else"]).await);
    plans(&mut scene, id, &may, &plain()).await;
    assert_eq!(status(&mut scene).await, "normal");
    scene.psql("alter table hosts rename to elsewhere").await;
    let (_, written) = plans(&mut scene, id, &lacks, &bare()).await;
    assert_eq!((written, status(&mut scene).await.as_str()), (Written::Stands, "normal"));
    let gone = "table_name: table public.hosts does not exist";
    let (_, written) = plans(&mut scene, id, &may, &plain()).await;
    assert_eq!(written, Written::Turned(Some(gone.to_owned())));
    scene.psql("alter table elsewhere rename to hosts").await;
    plans(&mut scene, id, &lacks, &bare()).await;
    assert_eq!(status(&mut scene).await, format!("invalid: {gone}"));
    let (_, written) = plans(&mut scene, id, &may, &plain()).await;
    assert_eq!((written, status(&mut scene).await.as_str()), (Written::Turned(None), "normal"));
}

#[tokio::test]
async fn a_mixed_crew_never_calls_normal_what_its_only_worker_cannot_work() {
    let mut scene = hosts(3).await;
    scene
        .psql(
            "create table turns (n bigint generated always as identity, watch text, status text);
             create function turned() returns trigger language plpgsql as
                 $$ begin insert into public.turns (watch, status) values (new.name, new.status); return null; end $$;
             create trigger turned after update of status on watchbell.watches
                 for each row execute function turned()",
        )
        .await;
    let pool = scene.database.pool.clone();
    let bare = |name| hand(&pool, name).handler("else", async || {});
    let mut crew = vec![start(bare("a")), start(bare("b")), start(hand(&pool, "c").handler("call", async || {}))];
    until_true(&pool, "(select count(*) = 3 from watchbell.workers where state = 'running')", PATIENCE).await;
    transactional_watch(&mut scene).await;
    until_true(&pool, "exists (select from watchbell.watches where status = 'invalid')", PATIENCE).await;
    for looks in 1..4 {
        // as its minute does, and as an edit of another does
        scene.psql("update watchbell.watches set wake_at = '-infinity'").await;
        let (other, values) = (format!("other{looks}"), format!("'hosts', 'nobody', 'new {looks}'"));
        watch(&mut scene, &other, "table_name, handler, from_state", &values).await;
        until_true(&pool, "not exists (select from watchbell.watches where wake_at < now())", PATIENCE).await;
    }
    // another worker without the handler starts, and finds the watch as it is
    crew.push(start(bare("d")));
    until_true(&pool, "(select count(*) = 4 from watchbell.workers where state = 'running')", PATIENCE).await;
    scene.psql("update watchbell.watches set wake_at = '-infinity' where name = 'hosts'").await;
    until_true(&pool, "not exists (select from watchbell.watches where wake_at < now())", PATIENCE).await;
    let hosts = "select concat_ws(': ', status, error) from watchbell.watches where name = 'hosts'";
    assert_eq!(scene.value::<String>(hosts).await, format!("invalid: {TAKES_NONE}"));
    let turns =
        "select array(select distinct watch || ' ' || status from turns where watch in ('hosts', 'other1') order by 1)";
    assert_eq!(scene.value::<Vec<String>>(turns).await, ["hosts invalid", "other1 normal"]);
    // what mends it lets them work
    scene.psql("update watchbell.watches set mode = 'auto' where name = 'hosts'").await;
    until_true(&pool, "not exists (select from hosts where status <> 'normal')", PATIENCE).await;
    for worker in crew {
        worker.stop().await;
    }
}

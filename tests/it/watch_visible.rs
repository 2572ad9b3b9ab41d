//! What people see of watches: rows in work are load, errors name their rows, and a trigger goes with its watch.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;
use watchbell::{Context, HandlerResult, client};

use crate::cli::{Ended, done, execute, refused, run};
use crate::rows::refusal;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

#[tokio::test]
async fn rows_in_work_are_load_of_their_worker_also_while_it_drains() {
    let mut scene = hosts(5).await;
    watch(&mut scene, "hosts", "table_name, handler, max_running", "'hosts', 'init', 3").await;
    let (url, pool) = (scene.database.url.clone(), scene.database.pool.clone());
    let (held, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (hold, tell) = (Arc::clone(&held), Arc::clone(&gate));
    let init = move |_: Context| {
        let (hold, tell) = (Arc::clone(&hold), Arc::clone(&tell));
        async move {
            tell.add_permits(1);
            let _ = hold.acquire().await;
        }
    };
    let worker = start(hand(&pool, "one").handler("init", init));
    drop(gate.acquire_many(3).await.unwrap());
    let status = run(Some(&url), &["status"]).1;
    assert!(status.contains("\nWorkers: 1 alive, 3 of 100 slots taken\n"), "{status}");
    let line =
        status.lines().find(|line| line.trim_start().starts_with("hosts\t")).unwrap_or_else(|| panic!("{status}"));
    assert_eq!(line.trim_start(), "hosts\tnormal\t5\t3\t0\t0\t");
    let mut session = scene.connect().await;
    let report = client::status(&mut session).await.unwrap();
    assert_eq!((report.watches[0].waiting, report.watches[0].in_work, report.workers[0].running), (Some(5), 3, 3));
    worker.shut_down();
    until_true(&pool, "exists (select from watchbell.workers where state = 'draining')", PATIENCE).await;
    let list = done(&url, &["workers", "list"]);
    assert!(list.contains("\tdraining\t3/100\t"), "{list}");
    held.add_permits(100);
    worker.ended().await.unwrap();
    assert_eq!(scene.value::<i64>("select sum(running)::bigint from watchbell.worker_status").await, 0);
}

#[tokio::test]
async fn a_table_that_somebody_holds_does_not_hold_up_the_status() {
    let mut scene = hosts(3).await;
    watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'init'").await;
    let mut other = scene.connect().await;
    sqlx::raw_sql("begin; lock table hosts").execute(&mut other).await.unwrap();
    let mut session = scene.connect().await;
    let report = client::status(&mut session).await.unwrap();
    assert_eq!((report.watches[0].name.as_str(), report.watches[0].waiting), ("hosts", None));
    let status = run(Some(&scene.database.url), &["status"]).1;
    assert!(status.contains("\nWatches: ? is not counted in time, or not readable"), "{status}");
    assert!(status.contains("\n  hosts\tpending\t?\t0\t?\t?\t\n"), "{status}");
}

#[tokio::test]
async fn the_trigger_goes_with_the_last_watch_of_its_table_and_is_recorded() {
    let mut scene = hosts(0).await;
    let url = scene.database.url.clone();
    watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'init'").await;
    watch(&mut scene, "broken", "table_name, handler, from_state, error_state", "'hosts', 'init', 'broken', 'gone'")
        .await;
    let triggers = "select count(*) from pg_trigger where tgrelid = 'hosts'::regclass and tgname = 'watchbell_status'";
    assert!(done(&url, &["watch", "show", "hosts"]).contains("  wake-up              none: "));
    assert_eq!(done(&url, &["watch", "wake", "hosts"]), "hosts\n");
    assert!(done(&url, &["watch", "show", "hosts"]).contains("  wake-up              by a trigger on the table\n"));
    assert_eq!(done(&url, &["watch", "wake", "hosts", "--off"]), "hosts\n");
    assert_eq!(scene.value::<i64>(triggers).await, 0);
    done(&url, &["watch", "wake", "hosts"]);
    scene.psql("select watchbell.unwatch('hosts')").await;
    assert_eq!(scene.value::<i64>(triggers).await, 1, "another watch is there");
    let Ended(code, _, stderr) = run(Some(&url), &["watch", "remove", "broken", "--yes"]);
    assert_eq!((code, stderr.contains("trigger")), (0, false), "{stderr}");
    assert_eq!(scene.value::<i64>(triggers).await, 0);
    let noted =
        "select string_agg(what || ' ' || name, ', ' order by id) from watchbell.activity where what like '%wake%'";
    let wanted = "wake_watch hosts, unwake_watch hosts, wake_watch hosts, unwake_watch broken";
    assert_eq!(scene.value::<String>(noted).await, wanted);
}

#[tokio::test]
async fn a_trigger_that_cannot_be_dropped_now_does_not_keep_its_watch() {
    let mut scene = hosts(0).await;
    let url = scene.database.url.clone();
    watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'init'").await;
    scene.psql("select watchbell.wake_watch('hosts')").await;
    let mut other = scene.connect().await;
    sqlx::raw_sql("begin; select count(*) from hosts").execute(&mut other).await.unwrap();
    let Ended(code, _, stderr) = run(Some(&url), &["watch", "remove", "hosts", "--yes"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("whose owner can remove it: DROP TRIGGER watchbell_status ON public.hosts;"), "{stderr}");
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watches").await, 0);
}

#[tokio::test]
async fn a_key_that_names_no_row_is_said_to() {
    let mut scene = hosts(2).await;
    let url = scene.database.url.clone();
    watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'init'").await;
    scene.psql("update hosts set status = 'failed' where id = 1").await;
    let retry = |key: &'static str| ["watch", "retry", "hosts", "--key", key];
    let (code, stderr) = refused(Some(&url), &retry("99"));
    assert_eq!((code, stderr.as_str()), (3, "error: row \"99\" does not exist in the table of watch \"hosts\""));
    let (code, stderr) = refused(Some(&url), &retry("zzz"));
    let wanted = "error: watch \"hosts\": \"zzz\" is not a value of key column \"id\", which is bigint";
    assert_eq!((code, stderr.as_str()), (2, wanted));
    let Ended(code, stdout, stderr) = run(Some(&url), &retry("2"));
    assert_eq!((code, stdout.as_str()), (0, "0\n"));
    assert!(stderr.contains("that row has not failed"), "{stderr}");
    let Ended(_, stdout, stderr) = run(Some(&url), &retry("1"));
    assert!(stdout == "1\n" && stderr.contains(": 1 row of watch \"hosts\" is tried again"), "{stderr}");
    let (code, stderr) = refused(Some(&url), &["watch", "retry", "hosts"]);
    assert!(code == 2 && stderr.contains("--yes: is missing"), "{stderr}");
    let in_sql = refusal(&mut scene.sql, "select watchbell.retry_watch('hosts', '{99}')").await;
    assert_eq!((in_sql.code.as_str(), in_sql.message.contains("no row of public.hosts has the key")), ("P0002", true));
}

#[tokio::test]
async fn errors_name_their_row_and_say_when_it_is_tried_again() {
    let mut scene = hosts(0).await;
    let (url, pool) = (scene.database.url.clone(), scene.database.pool.clone());
    let table = "create table public.models (name text, version int, status text not null default 'pending', \
                                            primary key (name, version)); \
                 insert into public.models values ('a', 2, 'pending')";
    execute(&scene.database, table).await;
    let retry = r#"'{"strategy": "fixed", "base": "1h", "jitter": false}'"#;
    watch(&mut scene, "models", "table_name, handler, retry", &format!("'models', 'train', {retry}")).await;
    let inner = pool.clone();
    let train = move |_: Context| {
        let pool = inner.clone();
        async move {
            sqlx::query("select 1 / 0").execute(&pool).await?;
            HandlerResult::Ok(())
        }
    };
    let worker = start(hand(&pool, "one").handler("train", train));
    until_true(&pool, "exists (select from watchbell.watch_errors)", PATIENCE).await;
    worker.stop().await;
    let show = done(&url, &["watch", "show", "models"]);
    let line = show.lines().find(|line| line.starts_with("  error of (a, 2)")).unwrap_or_else(|| panic!("{show}"));
    assert!(line.contains(" pending, attempt 1, again at "), "{line}");
    assert!(line.ends_with(": error returned from database: division by zero"), "{line}");
    let json: Value = serde_json::from_str(&done(&url, &["watch", "show", "models", "--json"])).unwrap();
    assert_eq!(json["errors"][0]["key"], serde_json::json!(["a", "2"]));
}

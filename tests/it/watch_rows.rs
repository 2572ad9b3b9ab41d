//! Transactional mode: rows of somebody's own table move on together with what their handlers wrote.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use watchbell::{Context, HandlerResult, Row, Rows, Tx, fatal};

use crate::support::crew::{config, hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, sql_crew, sql_hand, watch, work_until};

const INTO_EFFECTS: &str = r#"{"statement": "insert into effects (host) select id from claimed"}"#;

#[derive(Debug, serde::Deserialize)]
struct Host {
    id: i64,
}

async fn effect(tx: &mut Tx, host: i64) -> HandlerResult {
    sqlx::query("insert into effects (host) values ($1)").bind(host).execute(&mut **tx).await?;
    Ok(())
}

#[tokio::test]
async fn a_statement_sees_the_rows_as_claimed_and_each_has_its_effect_once() {
    let mut scene = hosts(20_000).await;
    watch(
        &mut scene,
        "hosts",
        "table_name, handler, payload, since_column",
        &format!("'hosts', 'sql', '{INTO_EFFECTS}', 'since'"),
    )
    .await;
    let workers = sql_crew(&scene.database, 3);
    work_until(&scene.database, workers, "not exists (select from hosts where status = 'pending')").await;
    assert_eq!(
        scene.value::<i64>("select count(*) from hosts where status = 'normal' and since is not null").await,
        20_000
    );
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, 20_000);
    assert_eq!(scene.value::<i64>("select count(distinct host) from effects").await, 20_000);
    let together = "select count(*) from effects e join hosts h on h.id = e.host and h.xmin = e.xmin";
    assert_eq!(scene.value::<i64>(together).await, 20_000, "row and effect are one commit");
    assert_eq!(scene.value::<i64>("select sum(done)::bigint from watchbell.watch_totals").await, 20_000);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_claims").await, 0);
}

#[tokio::test]
async fn a_handler_of_one_row_undoes_what_it_wrote_for_that_row_alone() {
    let mut scene = hosts(120).await;
    let retry = r#"{"strategy": "fixed", "base": "10ms", "jitter": false}"#;
    watch(&mut scene, "hosts", "table_name, handler, retry", &format!("'public.hosts', 'init', '{retry}'")).await;
    let init = |mut tx: Tx, host: Row<Host>, ctx: Context| async move {
        effect(&mut tx, host.id).await?;
        match host.id {
            7 => Err(format!("attempt {} of {}", ctx.attempt(), ctx.max_attempts()).into()),
            8 => Err(fatal("never")),
            9 if ctx.attempt() == 1 => panic!("at first"),
            10 => sqlx::query("select 1 / 0").execute(&mut *tx).await.map(drop).map_err(Into::into),
            _ => HandlerResult::Ok(()),
        }
    };
    let worker = start(hand(&scene.database.pool, "one").transactional("init", init));
    work_until(&scene.database, vec![worker], "not exists (select from hosts where status = 'pending')").await;
    assert_eq!(scene.values::<i64>("select id from hosts where status = 'failed' order by id").await, [7, 8, 10]);
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, 117);
    assert_eq!(scene.value::<i64>("select count(distinct host) from effects").await, 117);
    let errors =
        "select attempt || ' ' || kind || ': ' || message from watchbell.watch_errors where key = '{7}' order by at";
    assert_eq!(
        scene.values::<String>(errors).await,
        ["1 error: attempt 1 of 3", "2 error: attempt 2 of 3", "3 error: attempt 3 of 3"]
    );
    let errors = "select kind || ': ' || message from watchbell.watch_errors where key in ('{8}', '{9}') order by key";
    assert_eq!(scene.values::<String>(errors).await, ["fatal: never", "panic: at first"]);
    let totals = "select array[sum(done), sum(failed), sum(retried)]::bigint[] from watchbell.watch_totals";
    assert_eq!(scene.value::<Vec<i64>>(totals).await, [117, 3, 5]);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_claims").await, 0);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.worker_batches").await, 0);
}

#[tokio::test]
async fn a_batch_that_fails_is_halved_until_the_row_at_fault_stands_alone() {
    let mut scene = hosts(300).await;
    watch(&mut scene, "hosts", "table_name, handler, max_attempts, batch_size", "'hosts', 'init', 1, 64").await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let init = move |mut tx: Tx, hosts: Rows<Host>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            for host in &*hosts {
                effect(&mut tx, host.id).await?;
            }
            if hosts.iter().any(|host| [77, 78, 290].contains(&host.id)) {
                return Err("one of these".into());
            }
            HandlerResult::Ok(())
        }
    };
    let worker = start(hand(&scene.database.pool, "one").transactional("init", init));
    work_until(&scene.database, vec![worker], "not exists (select from hosts where status = 'pending')").await;
    assert_eq!(scene.values::<i64>("select id from hosts where status = 'failed' order by id").await, [77, 78, 290]);
    assert_eq!(scene.value::<i64>("select count(distinct host) from effects").await, 297);
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, 297);
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls < 50, "{calls} calls");
}

#[tokio::test]
async fn a_statement_that_cannot_be_executed_leaves_the_rows_alone() {
    let mut scene = hosts(10).await;
    let statement = r#"{"statement": "insert into nowhere select id from claimed"}"#;
    watch(&mut scene, "hosts", "table_name, handler, payload", &format!("'hosts', 'sql', '{statement}'")).await;
    let workers = sql_crew(&scene.database, 1);
    let said =
        "exists (select from watchbell.watches where status = 'invalid' and error like '%\"nowhere\" does not exist')";
    until_true(&scene.database.pool, said, PATIENCE).await;
    assert_eq!(scene.value::<i64>("select count(*) from hosts where status = 'pending'").await, 10);
    scene.psql("create table nowhere (id bigint); delete from watchbell.watches").await;
    watch(&mut scene, "hosts", "table_name, handler, payload", &format!("'hosts', 'sql', '{statement}'")).await;
    work_until(&scene.database, workers, "(select count(*) from nowhere) = 10").await;
}

#[tokio::test]
async fn a_constraint_that_waits_for_the_commit_is_charged_to_its_row() {
    let mut scene = hosts(20).await;
    scene.psql("create table racks (id bigint primary key); insert into racks select i from generate_series(1, 20) i where i <> 5; alter table effects add constraint \"Odd Name\" foreign key (host) references racks deferrable initially deferred").await;
    watch(&mut scene, "hosts", "table_name, handler, max_attempts", "'hosts', 'init', 1").await;
    let init = |mut tx: Tx, host: Row<Host>| async move {
        effect(&mut tx, host.id).await?;
        // the row it points at may come later in the transaction
        if host.id == 6 {
            effect(&mut tx, 600).await?;
            sqlx::query("insert into racks values (600)").execute(&mut *tx).await?;
        }
        HandlerResult::Ok(())
    };
    let worker = start(hand(&scene.database.pool, "one").transactional("init", init));
    work_until(&scene.database, vec![worker], "not exists (select from hosts where status = 'pending')").await;
    assert_eq!(scene.values::<i64>("select id from hosts where status = 'failed'").await, [5]);
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, 20);
}

#[tokio::test]
async fn a_row_that_its_table_does_not_let_go_fails_alone() {
    let mut scene = hosts(30).await;
    scene.psql("alter table hosts add check (not (id = 3 and status = 'normal')), add check (not (id = 4 and status in ('normal', 'failed')))").await;
    watch(
        &mut scene,
        "hosts",
        "table_name, handler, payload, max_attempts",
        &format!("'hosts', 'sql', '{INTO_EFFECTS}', 1"),
    )
    .await;
    let workers = sql_crew(&scene.database, 1);
    let barred = "exists (select from watchbell.watch_claims where key = '{4}' and error like '%and it cannot become \"failed\": %')";
    work_until(
        &scene.database,
        workers,
        &format!("(select count(*) from hosts where status <> 'pending') = 29 and {barred}"),
    )
    .await;
    assert_eq!(scene.values::<i64>("select id from hosts where status = 'failed'").await, [3]);
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, 28);
}

#[tokio::test]
async fn a_row_that_reaches_the_limit_of_transactional_mode_says_so() {
    let mut scene = hosts(2).await;
    let values = r#"'hosts', 'sql', '{"statement": "select pg_sleep(60) from claimed where id = 2"}', 1"#;
    watch(&mut scene, "hosts", "table_name, handler, payload, max_attempts", values).await;
    let mut config = config("one");
    config.watch_transaction = Duration::from_millis(200);
    let worker = sql_hand(&scene.database, "one").config(config);
    work_until(&scene.database, vec![start(worker)], "not exists (select from hosts where status = 'pending')").await;
    assert_eq!(scene.values::<i64>("select id from hosts where status = 'failed'").await, [2]);
    let said = "select kind || ': ' || message from watchbell.watch_errors";
    let expected = "timeout: took longer than 200ms, the limit of transactional mode; use mode leased";
    assert_eq!(scene.values::<String>(said).await, [expected]);
}

#[tokio::test]
async fn rows_flow_through_several_steps_each_with_its_handler() {
    let mut scene = hosts(500).await;
    scene.psql("create index on hosts (id) where status = 'downloaded'; create index on hosts (id) where status = 'checked'").await;
    let transitions = r#"[
        {"from": "pending", "to": "downloaded", "handler": "sql", "payload": {"statement": "insert into effects (host, worker) select id, 'download' from claimed"}},
        {"from": "downloaded", "to": "checked", "handler": "check", "error": "bad", "max_attempts": 1},
        {"from": "checked", "to": "normal", "handler": "sql", "batch_size": 7, "payload": {"statement": "insert into effects (host, worker) select id, 'install' from claimed"}}
    ]"#;
    watch(&mut scene, "hosts", "table_name, transitions", &format!("'hosts', $t${transitions}$t$")).await;
    let check = |host: Row<Host>, ctx: Context| async move {
        assert_eq!((ctx.watch(), ctx.step()), (Some("hosts"), Some("downloaded")));
        if host.id % 100 == 0 { Err(fatal("round number")) } else { HandlerResult::Ok(()) }
    };
    let check = move |_: Tx, host: Row<Host>, ctx: Context| check(host, ctx);
    let workers = (0..2).map(|n| {
        let worker = crate::support::watched::sql_hand(&scene.database, &format!("worker {n}"));
        start(worker.transactional("check", check))
    });
    let workers = workers.collect();
    work_until(&scene.database, workers, "not exists (select from hosts where status not in ('normal', 'bad'))").await;
    assert_eq!(scene.value::<i64>("select count(*) from hosts where status = 'normal'").await, 495);
    assert_eq!(scene.value::<i64>("select count(*) from effects where worker = 'download'").await, 500);
    assert_eq!(scene.value::<i64>("select count(*) from effects where worker = 'install'").await, 495);
}

#[tokio::test]
async fn rows_that_their_owner_changes_or_deletes_meanwhile_are_left_to_the_owner() {
    let mut scene = hosts(2_000).await;
    watch(
        &mut scene,
        "hosts",
        "table_name, handler, payload, batch_size",
        &format!("'hosts', 'sql', '{INTO_EFFECTS}', 20"),
    )
    .await;
    let workers = sql_crew(&scene.database, 2);
    for n in 0..200 {
        scene.psql(format!("update hosts set status = 'paused' where id = {n} * 10 + 1 and status = 'pending'")).await;
        scene.psql(format!("delete from hosts where id = {n} * 10 + 2 and status = 'pending'")).await;
    }
    work_until(&scene.database, workers, "not exists (select from hosts where status = 'pending')").await;
    let wrong = "select count(*) from hosts h full join effects e on e.host = h.id
                 where (h.status is distinct from 'normal') <> (e.host is null)";
    assert_eq!(scene.value::<i64>(wrong).await, 0, "an effect for each row that is normal, and for no other");
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_errors").await, 0);
}

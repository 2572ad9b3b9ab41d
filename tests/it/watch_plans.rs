//! What a worker makes of a watch: what fits, what does not and how to mend it, and by which index it looks.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use watchbell::lifecycle::watch_plan::{Found, plan};
use watchbell::watch::Plan;
use watchbell::{Registry, Tx};

use crate::support::Scene;
use crate::support::watched::{hosts, watch};

fn handlers() -> Registry {
    let sql = watchbell::handler::sql::Sql::new(sqlx::PgPool::connect_lazy("postgres://nowhere").unwrap());
    Registry::new().transactional("sql", sql).transactional("rust", async |_: Tx| {}).handler("plain", async || {})
}

async fn found(scene: &mut Scene, id: i64) -> Found {
    plan(&mut scene.sql, id, &handlers(), true).await.unwrap()
}

async fn planned(scene: &mut Scene, id: i64) -> Plan {
    match found(scene, id).await {
        Found::Planned(plan) => *plan,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_does_not_fit_is_said_in_one_sentence_with_what_mends_it() {
    for (spoil, said) in [
        ("alter table hosts rename to elsewhere", "table_name: table public.hosts does not exist"),
        (
            "alter table hosts rename to old; create view hosts as select * from old",
            "table_name: public.hosts is a view; its rows cannot be locked",
        ),
        (
            "alter table hosts drop column status",
            "status_column: public.hosts has no column status; run: ALTER TABLE public.hosts ADD COLUMN status text NOT NULL DEFAULT 'pending'",
        ),
        (
            "alter table hosts drop column since",
            "since_column: public.hosts has no column since; run: ALTER TABLE public.hosts ADD COLUMN since timestamptz",
        ),
        ("alter table hosts alter since type text", "since_column: since is text, must be timestamptz"),
        (
            "alter table hosts drop constraint hosts_pkey",
            "key_columns: public.hosts has no primary key; name unique columns here, or run: ALTER TABLE public.hosts ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        ),
        (
            "drop index hosts_pending; alter table hosts alter status drop default, alter status type boolean using true",
            "status_column: public.hosts.status is boolean; a state is text, an enum or a whole number",
        ),
        (
            "drop index hosts_pending; create type state as enum ('pending', 'normal'); alter table hosts alter status drop default, alter status type state using 'pending'",
            "state: \"failed\" is none of the values of public.hosts.status (pending, normal); run: ALTER TYPE state ADD VALUE 'failed'",
        ),
        (
            "drop index hosts_pending; alter table hosts alter status drop default, alter status type smallint using 0",
            "state: \"pending\" does not fit public.hosts.status, which is smallint",
        ),
    ] {
        let mut scene = hosts(10).await;
        let id = watch(&mut scene, "hosts", "table_name, handler, since_column", "'hosts', 'rust', 'since'").await;
        scene.psql(spoil).await;
        match found(&mut scene, id).await {
            Found::Invalid(reason) => assert_eq!(reason, said, "{spoil}"),
            other => panic!("{spoil}: {other:?}"),
        }
        let stored = "select status || ': ' || error from watchbell.watches";
        assert_eq!(scene.value::<String>(stored).await, format!("invalid: {said}"));
    }
}

#[tokio::test]
async fn a_mode_is_chosen_by_the_handler_and_said_with_its_reason() {
    let mut scene = hosts(10).await;
    let transitions = r#"[{"from": "pending", "to": "a", "handler": "rust"}, {"from": "a", "to": "b", "handler": "plain"}, {"from": "b", "to": "normal", "handler": "elsewhere"}]"#;
    let id = watch(&mut scene, "hosts", "table_name, transitions", &format!("'hosts', '{transitions}'")).await;
    let plan = planned(&mut scene, id).await;
    assert_eq!(
        plan.json(),
        json!({
            "steps": [
                {"from": "pending", "mode": "transactional", "reason": "the handler \"rust\" works in the transaction that moves the rows"},
                {"from": "a", "mode": "leased", "reason": "the handler \"plain\" may take long or act outside the database"},
                {"from": "b", "mode": null, "reason": "no worker that has the handler \"elsewhere\" has planned it yet"},
            ],
            "advice": [
                "CREATE INDEX CONCURRENTLY ON public.hosts (id) WHERE status = 'a'",
                "CREATE INDEX CONCURRENTLY ON public.hosts (id) WHERE status = 'b'",
            ],
            "table": "public.hosts",
            "key": ["id"],
        })
    );
    assert_eq!(scene.value::<Value>("select plan from watchbell.watches").await, plan.json());
    // another worker knows the missing handler, and keeps what it does not know itself
    let other = Registry::new().handler("elsewhere", async || {});
    watchbell::lifecycle::watch_plan::plan(&mut scene.sql, id, &other, false).await.unwrap();
    let modes = "select array(select s ->> 'mode' from jsonb_array_elements(plan -> 'steps') s) from watchbell.watches";
    assert_eq!(scene.value::<Vec<String>>(modes).await, ["transactional", "leased", "leased"]);
}

#[tokio::test]
async fn the_index_that_is_advised_is_the_one_that_serves() {
    for (order, status, from) in [
        ("null", "text", "pending"),
        ("'name desc, since'", "text", "pending"),
        ("'since desc'", "varchar(30)", "pending"),
        ("'name'", "smallint", "0"),
    ] {
        let mut scene = hosts(2_000).await;
        scene.psql(format!("drop index hosts_pending; alter table hosts alter status drop default, alter status type {status} using '{from}'; alter table hosts alter since set default now()")).await;
        let columns = "table_name, handler, from_state, to_state, error_state, order_by";
        let id = watch(&mut scene, "hosts", columns, &format!("'hosts', 'rust', '{from}', '7', '8', {order}")).await;
        let advice = planned(&mut scene, id).await.advice;
        assert_eq!(advice.len(), 1, "{order}, {status}: {advice:?}");
        scene.psql(advice[0].clone()).await;
        let after = planned(&mut scene, id).await.advice;
        assert_eq!(after, Vec::<String>::new(), "{order}, {status}: {advice:?}");
    }
}

/// Pages that a claim of leased rows looks at, whose worker is the first; it is undone.
async fn claimed_reads(scene: &mut Scene, claim: &str) -> i64 {
    let worker: i32 = scene.value("select min(id) from watchbell.workers").await;
    let claim = claim.replace("$1::integer", &worker.to_string()).replace("$2::bigint", "50");
    scene.psql("begin").await;
    let plan: Value = scene.value(format!("explain (analyze, buffers, format json) {claim}")).await;
    scene.psql("rollback").await;
    let text = plan.to_string();
    assert!(text.contains("hosts_pending") && !text.contains("Seq Scan"), "{plan:#}");
    plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap() + plan[0]["Plan"]["Shared Read Blocks"].as_i64().unwrap()
}

#[tokio::test]
async fn a_million_rows_that_are_done_are_not_read() {
    let mut scene = Scene::new().await;
    scene
        .psql(
            "set statement_timeout = 0; create unlogged table hosts (id bigint primary key, status text not null, name text);
             insert into hosts select i, case when i % 1000 = 0 then 'pending' else 'normal' end, 'host ' || i from generate_series(1, 1000000) i;
             create index hosts_pending on hosts (id) where status = 'pending'",
        )
        .await;
    let id = watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'rust'").await;
    let mut user = scene.database.connect().await;
    scene.worker("a", &["rust"]).await;
    for size in ["unknown", "analysed"] {
        if size == "analysed" {
            scene.psql("analyze hosts").await;
        }
        // a thousand rows that wait for another attempt stand in front of none
        for waiting in [0, 900] {
            scene.psql(format!("delete from watchbell.watch_claims; insert into watchbell.watch_claims (watch_id, key, step, due_at) select {id}, array[(i * 1000)::text], 'pending', 'infinity' from generate_series(1, {waiting}) i")).await;
            let plan = planned(&mut scene, id).await;
            assert_eq!(plan.advice, Vec::<String>::new());
            let take = plan.steps[0].statements.take(&50, false);
            let leased = plan.steps[0].leased.claim(false);
            // as on a connection of the handlers' pool, whose settings are not ours
            let explain = format!("explain (analyze, buffers, format json) {take}");
            let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut user).await.unwrap();
            let text = plan.to_string();
            assert!(text.contains("hosts_pending"), "{size}, {waiting}: {plan:#}");
            assert!(!text.contains("Seq Scan"), "{size}, {waiting}: {plan:#}");
            let read = plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
                + plan[0]["Plan"]["Shared Read Blocks"].as_i64().unwrap();
            assert!(read < 5_000 + 20 * waiting, "{size}, {waiting}: {read} blocks");
            let read = claimed_reads(&mut scene, &leased).await;
            assert!(read < 5_000 + 20 * waiting, "{size}, {waiting}, leased: {read} blocks");
        }
    }
    // behind a place in the order not even those that wait are read
    let plan = planned(&mut scene, id).await;
    let take = plan.steps[0].statements.take(&50, true).replace("$1", "'900000'");
    let explain = format!("explain (analyze, buffers, format json) {take}");
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut user).await.unwrap();
    let read = plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
        + plan[0]["Plan"]["Shared Read Blocks"].as_i64().unwrap();
    assert!(read < 1_000, "{read} blocks: {plan:#}");
}

#[tokio::test]
async fn a_filter_is_one_condition_and_nothing_else() {
    let mut scene = hosts(10).await;
    let id = watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'rust'").await;
    for (filter, said) in [
        ("id > 3) or (true", "\")\" closes nothing"),
        ("id > 3; drop table hosts", "it is one condition, without a semicolon"),
        ("id > 3 -- and", "a comment is not allowed here: -- and"),
        ("nothing = 3", "column \"nothing\" does not exist"),
        ("id", "argument of AND must be type boolean, not type bigint"),
    ] {
        // as a row that was written before there was a check, or by somebody who passes it by
        let write = "update watchbell.watches set filter = $1";
        scene.psql("alter table watchbell.watches disable trigger user").await;
        sqlx::query(write).bind(filter).execute(&mut scene.sql).await.unwrap();
        match found(&mut scene, id).await {
            Found::Invalid(reason) => assert_eq!(reason, format!("filter: {said}")),
            other => panic!("{filter}: {other:?}"),
        }
    }
}

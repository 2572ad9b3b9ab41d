//! What a worker makes of a watch: what fits, what does not and how to mend it, and by which index it looks.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use watchbell::handler::{http::Http, shell::Shell};
use watchbell::lifecycle::watch_plan::{Found, Planner, plan};
use watchbell::watch::{Plan, plan::TRANSACTION_MAX};
use watchbell::{Registry, Tx};

use crate::support::Scene;
use crate::support::watched::{hosts, watch};

fn handlers() -> Registry {
    let sql = watchbell::handler::sql::Sql::new(sqlx::PgPool::connect_lazy("postgres://nowhere").unwrap());
    Registry::new().transactional("sql", sql).transactional("rust", async |_: Tx| {}).handler("plain", async || {})
}

fn planner(worker: i32, registry: &Registry) -> Planner<'_> {
    Planner { worker, registry, transaction_max: TRANSACTION_MAX }
}

async fn found(scene: &mut Scene, id: i64) -> Found {
    plan(&mut scene.sql, id, &planner(1, &handlers()), true).await.unwrap().0
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
            "key_columns: public.hosts has no primary key; name unique columns here, or run: ALTER TABLE public.hosts ADD PRIMARY KEY (id)",
        ),
        (
            "alter table hosts drop constraint hosts_pkey; alter table hosts rename id to no",
            "key_columns: public.hosts has no primary key; name unique columns here, or run: ALTER TABLE public.hosts ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        ),
        (
            "drop index hosts_pending; alter table hosts alter status drop default, alter status type boolean using true",
            "status_column: public.hosts.status is boolean; a state is text, an enum or a whole number",
        ),
        (
            "drop index hosts_pending; create type state as enum ('pending', 'normal'); alter table hosts alter status drop default, alter status type state using 'pending'",
            "state: \"failed\" is none of the values of public.hosts.status (pending, normal); name one of these, or run: ALTER TYPE state ADD VALUE 'failed'",
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
            Found::Invalid(found) => assert_eq!(found.reason, said, "{spoil}"),
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
    let said = |from: &str, handler: &str, mode: &str, timeout: i64, reason: &str| json!({"from": from, "handler": handler, "mode": mode, "reason": reason, "invalid": false, "timeout_ms": timeout, "worker": 1});
    let stored: Value = scene.value("select plan from watchbell.watches").await;
    assert_eq!(
        stored,
        json!({
            "version": 1,
            "steps": [
                said("pending", "rust", "transactional", 5_000, "the handler \"rust\" works in the transaction that moves the rows"),
                said("a", "plain", "leased", 3_600_000, "the handler \"plain\" may take long or act outside the database"),
                {"from": "b", "handler": "elsewhere", "mode": null, "reason": "no worker that has the handler \"elsewhere\" has planned it yet"},
            ],
            "advice": [
                "CREATE INDEX CONCURRENTLY ON public.hosts (id) WHERE status = 'a'",
                "CREATE INDEX CONCURRENTLY ON public.hosts (id) WHERE status = 'b'",
            ],
            "table": "public.hosts",
            "key": ["id"],
        })
    );
    assert_eq!(plan.steps.len(), 3);
    // another worker knows the missing handler, and keeps what it does not know itself
    let other = Registry::new().handler("elsewhere", async || {});
    watchbell::lifecycle::watch_plan::plan(&mut scene.sql, id, &planner(2, &other), false).await.unwrap();
    let modes = "select array(select s ->> 'mode' from jsonb_array_elements(plan -> 'steps') s) from watchbell.watches";
    assert_eq!(scene.value::<Vec<String>>(modes).await, ["transactional", "leased", "leased"]);
}

#[tokio::test]
async fn a_timeout_above_the_limit_of_transactional_mode_is_not_cut_in_silence() {
    let long = "timeout: 10s is longer than the 5s of transactional mode; use mode auto or leased";
    for (mode, timeout, expected) in [
        ("auto", "'10 s'", "leased: its timeout of 10s is longer than the 5s of transactional mode"),
        ("auto", "'5 s'", "transactional: the handler \"rust\" works in the transaction that moves the rows"),
        // what every watch has asks for nothing
        ("auto", "'1 hour'", "transactional: the handler \"rust\" works in the transaction that moves the rows"),
        ("auto", "null", "transactional: the handler \"rust\" works in the transaction that moves the rows"),
        ("leased", "'10 s'", "leased: as asked for"),
        ("transactional", "'4 s'", "transactional: as asked for"),
        ("transactional", "'10 s'", long),
    ] {
        let mut scene = hosts(10).await;
        let values = format!("'hosts', 'rust', '{mode}', {timeout}");
        let id = watch(&mut scene, "hosts", "table_name, handler, mode, timeout", &values).await;
        let said = match found(&mut scene, id).await {
            Found::Planned(plan) => format!("{}: {}", plan.steps[0].mode.unwrap().word(), plan.steps[0].reason),
            Found::Invalid(found) => found.reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(said, expected, "{mode}, {timeout}");
    }
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
            Found::Invalid(found) => assert_eq!(found.reason, format!("filter: {said}")),
            other => panic!("{filter}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_payload_with_which_each_row_would_fail_makes_the_watch_invalid() {
    let mut scene = hosts(1).await;
    let shell = || Shell::new().program("not-there").program("sort");
    let registry = || Registry::new().handler("shell", shell()).handler("http", Http::new());
    for (handler, payload, said) in [
        ("shell", json!({"argvv": ["sort"]}), "unknown key \"argvv\"; did you mean \"argv\"?"),
        ("shell", json!({}), "either \"argv\" or \"command\" is needed"),
        ("shell", json!({"argv": ["sort"], "run_as": "bob"}), "\"run_as\" \"bob\" is not allowed"),
        ("shell", json!({"argv": ["/bin/ls"]}), "program \"/bin/ls\""),
        ("shell", json!({"argv": ["not-there"]}), ""),
        ("shell", json!({"argv": ["sort"], "env": {"A": {"$secret": "A"}}}), ""),
        ("http", json!({"ur": "http://example.com"}), "the payload's key \"ur\" is unknown; did you mean \"url\"?"),
        ("http", json!({"url": "ftp://example.com"}), "\"url\": must begin with http://"),
        (
            "http",
            json!({"url": "http://0x7f.1:8080/"}),
            "127.0.0.1 is a loopback address, which this worker does not call",
        ),
        ("http", json!({"url": "http://[::1]/"}), "[::1] is a loopback address"),
        ("http", json!({"url": {"$secret": "A"}}), ""),
        ("http", json!({"url": "http://no.such.host.invalid/", "method": "PUT"}), ""),
    ] {
        let values = format!("'{handler}', 'hosts', '{handler}', '{payload}'");
        let add = format!(
            "insert into watchbell.watches (name, table_name, handler, payload) values ({values}) returning id"
        );
        let id: i64 = scene.value(&add).await;
        let registry = registry();
        let (found, _) = plan(&mut scene.sql, id, &planner(1, &registry), true).await.unwrap();
        match found {
            Found::Invalid(named) => {
                let problem = named.reason.strip_prefix("payload: ").unwrap_or_else(|| panic!("{named:?}"));
                assert!(!said.is_empty() && problem.starts_with(said), "{payload}: {problem}");
            }
            found => assert!(said.is_empty() && matches!(found, Found::Planned(_)), "{payload}: {found:?}"),
        }
        scene.psql(format!("delete from watchbell.watches where id = {id}")).await;
    }
}

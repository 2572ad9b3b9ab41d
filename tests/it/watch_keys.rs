//! Whatever people call their tables and columns, and whatever names their rows.

use serde_json::Value;
use watchbell::{Context, HandlerResult, Row, Tx};

use crate::support::Scene;
use crate::support::crew::{hand, start};
use crate::support::watched::{sql_crew, sql_hand, watch, work_until};

#[tokio::test]
async fn a_key_of_several_columns_under_odd_names_is_moved_row_by_row() {
    let mut scene = Scene::new().await;
    scene
        .psql(
            r#"create schema "Sch ""ema";
            create type "Sch ""ema"."Sta te" as enum ('to do', 'it''s done', 'broken \');
            create table "Sch ""ema"."select" (
                "Key One" uuid not null default gen_random_uuid(), "k,2" text not null, "from" numeric(8, 2) not null,
                "Sta tus" "Sch ""ema"."Sta te" not null default 'to do', "Since At" timestamptz,
                primary key ("k,2", "Key One", "from"));
            create index on "Sch ""ema"."select" ("k,2", "Key One", "from") where "Sta tus" = 'to do';
            insert into "Sch ""ema"."select" ("k,2", "from")
            select (array['', 'a"b', 'it''s', 'back\slash', '{a,b}', 'NULL', E'new\nline', 'Ü é'])[i % 8 + 1], i % 3 + 0.50
            from generate_series(1, 400) i"#,
        )
        .await;
    let columns =
        "table_name, handler, status_column, since_column, from_state, to_state, error_state, max_attempts, order_by";
    let values =
        r#"'"Sch ""ema"."select"', 'look', 'Sta tus', 'Since At', 'to do', 'it''s done', 'broken \', 1, '"k,2" desc'"#;
    watch(&mut scene, "odd", columns, values).await;
    let look = |_: Tx, row: Row<Value>| async move {
        if row["k,2"] == "back\\slash" { Err("no backslash, please".into()) } else { HandlerResult::Ok(()) }
    };
    let workers = (0..2).map(|n| start(sql_hand(&scene.database, &format!("worker {n}")).transactional("look", look)));
    let workers = workers.collect();
    let table = r#""Sch ""ema"."select""#;
    work_until(&scene.database, workers, &format!(r#"not exists (select from {table} where "Sta tus" = 'to do')"#))
        .await;
    let count = format!(r#"select count(*) from {table} where "Sta tus" = 'it''s done' and "Since At" is not null"#);
    assert_eq!(scene.value::<i64>(count).await, 350);
    let failed = format!(r#"select count(*) from {table} where "Sta tus" = 'broken \' and "k,2" = 'back\slash'"#);
    assert_eq!(scene.value::<i64>(failed).await, 50);
    let known = format!(
        r#"select count(*) from watchbell.watch_errors e join {table} t
           on e.key = array[t."k,2", t."Key One"::text, t."from"::text] where e.step = 'to do'"#
    );
    assert_eq!(scene.value::<i64>(known).await, 50);
}

/// Types of a status column, and three states of each: before, during and after the work.
const KINDS: [(&str, &str, &str, &str); 5] = [
    ("smallint", "0", "1", "2"),
    ("integer", "-1", "-2", "7"),
    ("varchar(20)", "new", "busy", "old"),
    ("state", "new", "busy", "old"),
    ("char(8)", "new", "busy", "old"),
];
const NAMES: [&str; 5] = ["of_smallint", "of_integer", "of_varchar", "of_state", "of_char"];

/// A table of a hundred rows that stand at `from`, and its name.
async fn of_kind(scene: &mut Scene, kind: &str, from: &str) -> String {
    let name = format!("of_{}", kind.split('(').next().unwrap());
    scene
        .psql(format!(
            "create table {name} (n integer primary key, status {kind} not null default '{from}');
             insert into {name} select generate_series(1, 100); create index on {name} (n) where status = '{from}'"
        ))
        .await;
    name
}

async fn assert_old(scene: &mut Scene) {
    for name in NAMES {
        let old = format!("select count(*) from {name} where status::text in ('2', '7', 'old')");
        assert_eq!(scene.value::<i64>(old).await, 100, "{name}");
    }
}

#[tokio::test]
async fn a_state_of_any_kind_is_reached_in_leased_mode() {
    let mut scene = Scene::new().await;
    scene.psql("create domain state as text check (value <> '')").await;
    for (kind, from, via, to) in KINDS {
        let name = of_kind(&mut scene, kind, from).await;
        let error = if from == "new" { "failed" } else { "9" };
        let values = format!("'{name}', 'init', '{from}', '{via}', '{to}', '{error}'");
        watch(&mut scene, &name, "table_name, handler, from_state, via_state, to_state, error_state", &values).await;
    }
    let worker = start(hand(&scene.database.pool, "one").handler("init", async |_: Context| {}));
    let done = "(select sum(done) from watchbell.watch_totals) = 500";
    work_until(&scene.database, vec![worker], done).await;
    assert_old(&mut scene).await;
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_errors").await, 0);
}

#[tokio::test]
async fn a_state_may_be_text_of_any_kind_or_a_number() {
    let mut scene = Scene::new().await;
    scene.psql("create domain state as text check (value <> ''); create table done (kind text, n integer)").await;
    for (kind, from, _, to) in KINDS {
        let name = of_kind(&mut scene, kind, from).await;
        let statement = format!(
            r#"{{"statement": "insert into done select '{name}', n from claimed where n > $1::integer", "args": [0]}}"#
        );
        let error = if from == "new" { "failed" } else { "9" };
        let values = format!("'{name}', 'sql', $s${statement}$s$, '{from}', '{to}', '{error}'");
        watch(&mut scene, &name, "table_name, handler, payload, from_state, to_state, error_state", &values).await;
    }
    let workers = sql_crew(&scene.database, 2);
    work_until(&scene.database, workers, "(select count(*) from done) = 500").await;
    assert_old(&mut scene).await;
    let advice = "select count(*) from watchbell.watches where plan -> 'advice' <> '[]'";
    assert_eq!(scene.value::<i64>(advice).await, 0, "each index serves");
}

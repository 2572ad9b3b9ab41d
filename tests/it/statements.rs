//! Every statement of the engine, against a migrated database: it can be prepared, it names its columns,
//! and the hot ones go by their index, however large or empty the tables are.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::Scene;

/// The directory of statements, and below it.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn statement(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A statement without its comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The hot statements, with values of their parameters that a busy worker could have.
const HOT: [(&str, &str); 6] = [
    (
        "2_claim.sql",
        "'{default}', '{5}', '{0001-01-01T00:00:00Z}', '{0}', '{9999-12-31T00:00:00Z}', '{9223372036854775807}', \
         '{mail}', '{}', 10, 1, null",
    ),
    ("2_claim_keyed.sql", "'', null, '{mail}', '{}', 10, 1, null"),
    ("2_lanes.sql", "null, '{default}', '{5}', '{0001-01-01T00:00:00Z}', '{0}', null"),
    ("3_renew.sql", "1, 15000, false, false, null, null"),
    ("1_fire_due.sql", "200, null"),
    (
        "4_finish.sql",
        "'{1,2}', '{1,1}', '{1,1}', '{normal,pending}', '{null,1000}', '{f,f}', '{f,f}', '{null,null}', \
         '{null,null}', '{0,0}', null",
    ),
];

/// The plan of a hot statement as the engine's own sessions get it.
async fn plan(scene: &mut Scene, name: &str, values: &str) -> Value {
    scene.psql(format!("prepare hot as {}", statement(name))).await;
    scene.psql("begin").await;
    let plan = scene.value(format!("explain (analyze, timing off, format json) execute hot ({values})")).await;
    scene.psql("rollback").await;
    scene.psql("deallocate hot").await;
    plan
}

/// Every node of a plan, parents first.
fn nodes(plan: &Value) -> Vec<&Value> {
    let mut all = vec![];
    match plan {
        Value::Array(items) => items.iter().for_each(|item| all.extend(nodes(item))),
        Value::Object(fields) => {
            if fields.contains_key("Node Type") {
                all.push(plan);
            }
            fields.values().for_each(|field| all.extend(nodes(field)));
        }
        _ => {}
    }
    all
}

/// What a plan reads of the large tables, other than by an index that was made for it.
fn strays(plan: &Value) -> Vec<String> {
    let large = ["runs_live", "schedules", "runs_finished"];
    let made_for_it = |index: &str| {
        let runs = ["runs_live_lane", "runs_live_key", "runs_live_pkey", "runs_live_schedule"];
        runs.contains(&index) || ["schedules_due", "schedules_resume", "schedules_pkey"].contains(&index)
    };
    let of_large = |node: &&Value| node["Relation Name"].as_str().is_some_and(|name| large.contains(&name));
    let reads = nodes(plan).into_iter().filter(of_large).filter(|node| node["Node Type"] != "ModifyTable");
    let strays = reads.filter(|node| !node["Index Name"].as_str().is_some_and(made_for_it));
    strays.map(|node| format!("{} on {}, {}", node["Node Type"], node["Alias"], node["Filter"])).collect()
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let mut scene = Scene::new().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql");
    let all = files(&root);
    assert!(all.len() > 25, "{} statements", all.len());
    for path in all.into_iter().filter(|path| !path.parent().is_some_and(|parent| parent.ends_with("client"))) {
        let text = std::fs::read_to_string(&path).unwrap();
        let prepared = sqlx::raw_sql(AssertSqlSafe(format!("prepare one as {text}"))).execute(&mut scene.sql).await;
        prepared.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        scene.psql("deallocate one").await;
    }
}

#[test]
fn every_statement_names_its_columns() {
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql")) {
        let text = code(&std::fs::read_to_string(&path).unwrap()).replace("count(*)", "");
        for star in ["select *", ".*", ", *", "returning *"] {
            assert!(!text.contains(star), "{} says \"{star}\"", path.display());
        }
    }
}

#[tokio::test]
async fn hot_statements_go_by_their_index_however_large_or_empty_the_tables_are() {
    let mut scene = Scene::new().await;
    let _worker = scene.worker("a", &["mail"]).await;
    for size in ["empty", "filled", "analysed"] {
        if size == "filled" {
            scene.enqueue_many("priority, handler", "i % 3, 'mail' from generate_series(1, 100000) i").await;
            let columns = "(name, fixed_rate, handler)";
            scene.psql(format!("set client_min_messages = error; insert into watchbell.schedules {columns} select 's' || i, '1 h', 'mail' from generate_series(1, 2000) i")).await;
            scene.fire().await;
        } else if size == "analysed" {
            scene.psql("analyze watchbell.runs_live, watchbell.schedules").await;
        }
        for (name, values) in HOT {
            let plan = plan(&mut scene, name, values).await;
            assert_eq!(strays(&plan), Vec::<String>::new(), "{name}, {size}");
        }
    }
}

#[tokio::test]
async fn a_claim_walks_the_lane_and_a_fire_the_due_schedules() {
    let mut scene = Scene::new().await;
    let indexes =
        [("2_claim.sql", "runs_live_lane"), ("2_lanes.sql", "runs_live_lane"), ("1_fire_due.sql", "schedules_due")];
    for (wanted, index) in indexes {
        let (name, values) = HOT.into_iter().find(|(name, _)| *name == wanted).unwrap();
        let plan = plan(&mut scene, name, values).await;
        assert!(nodes(&plan).iter().any(|node| node["Index Name"] == index), "{name}: {plan:#}");
    }
}

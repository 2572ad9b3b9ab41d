//! Looking at what needs a person costs the same however much there is: by indexes, and never into history.

use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::Scene;

/// Every node of a plan, parents first.
fn nodes(plan: &Value) -> Vec<&Value> {
    match plan {
        Value::Array(items) => items.iter().flat_map(nodes).collect(),
        Value::Object(fields) => {
            let own = fields.contains_key("Node Type").then_some(plan);
            own.into_iter().chain(fields.values().flat_map(nodes)).collect()
        }
        _ => vec![],
    }
}

#[tokio::test]
async fn attention_reads_a_bounded_number_of_rows_by_index_and_no_history() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    let columns = "(name, fixed_rate, handler)";
    let many = "select 's' || i, '1 h', 'mail' from generate_series(1, 2000) i";
    scene.psql(format!("set client_min_messages = error; insert into watchbell.schedules {columns} {many}")).await;
    for _ in 0..2 {
        scene.fire().await;
    }
    scene.enqueue_many_in("-1 h", "priority, handler", "i % 3, 'mail' from generate_series(1, 60000) i").await;
    let keyed = "'mail', 'k' || i % 3000 from generate_series(1, 20000) i";
    scene.enqueue_many_in("-1 h", "handler, concurrency_key", keyed).await;
    scene.psql("vacuum analyze watchbell.runs_live, watchbell.schedules").await;
    let mut session = scene.database.connect().await;
    let set = format!("set watchbell.now = '{}'", scene.now().to_rfc3339());
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut session).await.unwrap();
    let explain = "explain (analyze, timing off, format json) select severity, reason from watchbell.attention";
    let plan: Value = sqlx::query_scalar(explain).fetch_one(&mut session).await.unwrap();
    let of = |node: &&Value, names: &[&str]| {
        node["Relation Name"].as_str().is_some_and(|name| names.iter().any(|wanted| name.starts_with(wanted)))
    };
    let all = nodes(&plan);
    let history =
        all.iter().filter(|node| of(node, &["runs_finished", "fires", "run_errors", "run_output", "activity"]));
    assert_eq!(history.count(), 0, "{plan:#}");
    let large: Vec<_> = all.into_iter().filter(|node| of(node, &["runs_live", "schedules"])).collect();
    assert!(large.len() > 10, "{} nodes read the large tables", large.len());
    for node in large {
        let what = format!("{} on {}, {}", node["Node Type"], node["Alias"], node["Index Name"]);
        assert!(node["Index Name"].is_string(), "{what}");
        let number = |field: &str| node[field].as_f64().unwrap_or_default();
        let read = (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops");
        assert!(read <= 25_000.0, "{what}: {read} rows");
    }
}

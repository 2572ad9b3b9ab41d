//! The dashboard that reads the database itself.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use sqlx::{AssertSqlSafe, Column, Executor, Row, TypeInfo};
use watchbell::run::transition::Event;

use super::board::{Board, boards};
use super::read;
use crate::support::Scene;
use crate::support::scene::failure;

/// A statement as Grafana sends it: its macros and variables replaced.
fn sent(text: &str) -> String {
    let mut sent = text.replace("in ($queue)", "in ('default','mail')").replace("in ($handler)", "in ('mail','sql')");
    for (name, made) in [
        (
            "$__timeFilter(",
            &(|column: &str| format!("{column} BETWEEN now() - interval '1 day' AND now() + interval '1 day'"))
                as &dyn Fn(&str) -> String,
        ),
        ("$__timeGroupAlias(", &|arguments: &str| {
            let column = arguments.strip_suffix(", $__interval").unwrap();
            format!("floor(extract(epoch from {column})/60)*60 AS \"time\"")
        }),
    ] {
        while let Some(from) = sent.find(name) {
            let start = from + name.len();
            let end = start + sent[start..].find(')').unwrap();
            let with = made(&sent[start..end]);
            sent.replace_range(from..=end, &with);
        }
    }
    assert!(!sent.contains('$'), "{sent}");
    sent
}

fn board() -> Board {
    boards().into_iter().find(|board| board.name == "watchbell-postgres.json").unwrap()
}

#[tokio::test]
async fn every_query_for_the_database_brings_rows_of_the_kind_its_panel_draws() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("anna", &["mail"]).await;
    // one run that ended well, one that failed, one that runs and one that waits; a schedule that has fired
    let schedule = scene.schedule("often", "fixed_rate", "'1 min'").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(2)).await;
    scene.fire().await;
    scene.psql(format!("update watchbell.schedules set description = 'edited' where id = {schedule}")).await;
    for _ in 0..4 {
        let run = scene.new_run("mail").max_attempts(1);
        scene.insert(run).await;
    }
    for event in [Event::Succeeded, failure()] {
        let run = scene.claim_one_of(&mut worker).await;
        scene.end(&run, event).await;
    }
    scene.claim_one_of(&mut worker).await;
    // a watch with a row that waits, one that is stuck, and what became of others
    scene
        .psql(
            "create table hosts (id bigint primary key, status text not null default 'pending', since timestamptz default now()); \
             insert into hosts (id, status) values (1, 'pending'), (2, 'busy'); \
             set client_min_messages = error; \
             insert into watchbell.watches (name, table_name, handler, via_state, since_column) \
             values ('hosts', 'hosts', 'mail', 'busy', 'since'); \
             insert into watchbell.watch_totals (watch_id, step, worker_id, done, failed) select id, 'pending', 1, 3, 1 \
             from watchbell.watches; \
             insert into watchbell.watch_errors (watch_id, key, step, attempt, kind, message) \
             select id, '{7}', 'pending', 1, 'error', 'no' from watchbell.watches",
        )
        .await;
    let mut problems = vec![];
    for query in board().variable_queries() {
        let rows = sqlx::query(AssertSqlSafe(query.clone())).fetch_all(&scene.database.pool).await.unwrap();
        if rows.is_empty() {
            problems.push(format!("no value: {query}"));
        }
    }
    for expression in board().expressions() {
        let text = sent(&expression.text);
        let rows = match scene.database.pool.fetch_all(AssertSqlSafe(text.clone())).await {
            Ok(rows) => rows,
            Err(error) => {
                problems.push(format!("{}: {error}\n{text}", expression.panel));
                continue;
            }
        };
        let Some(row) = rows.first() else {
            problems.push(format!("{}: no row\n{text}", expression.panel));
            continue;
        };
        let columns: Vec<(&str, &str)> = row.columns().iter().map(|c| (c.name(), c.type_info().name())).collect();
        if expression.format == "time_series" {
            let is_line = columns[0].0 == "time"
                && columns[1..].iter().all(|(name, kind)| *name == "metric" || ["INT8", "FLOAT8"].contains(kind));
            if !is_line {
                problems.push(format!("{}: no lines can be drawn of {columns:?}", expression.panel));
            }
        }
        // Grafana shows what it does not know as text; an interval, an array or a numeric would be lost or wrong
        let strange = columns.iter().filter(|(name, kind)| {
            *name != "time" && !["INT2", "INT4", "INT8", "FLOAT8", "TEXT", "BOOL", "TIMESTAMPTZ"].contains(kind)
        });
        problems.extend(strange.map(|column| format!("{}: {column:?}", expression.panel)));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_viewer_may_read_all_that_the_queries_read() {
    let roles = read("src/cli/generate/roles.sql");
    let (_, after) = roles.split_once("grant select on\n").unwrap();
    let (granted, _) = after.split_once("to {prefix}_viewer").unwrap();
    let granted: BTreeSet<&str> = granted.split(',').map(str::trim).collect();
    let board = board();
    let queries = board.expressions().into_iter().map(|expression| expression.text).chain(board.variable_queries());
    let mut denied = BTreeSet::new();
    for query in queries {
        for rest in query.split("watchbell.").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let name = format!("watchbell.{name}");
            if !granted.contains(name.as_str()) {
                denied.insert(name);
            }
        }
    }
    assert!(denied.is_empty(), "{denied:?}");
}

//! What an application is told of rows that fail.

use std::sync::{Arc, Mutex};

use watchbell::worker::RowEvent;
use watchbell::{Context, HandlerResult, Row, Rows, Tx, fatal};

use crate::cli::execute;
use crate::support::Database;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::PATIENCE;

#[derive(Debug, serde::Deserialize)]
struct Host {
    id: i64,
    name: String,
}

/// Even rows succeed; the third one fails for ever, the others twice.
fn init(host: &Host, attempt: i32) -> HandlerResult {
    match (host.id % 2, attempt) {
        (0, _) => Ok(()),
        _ if host.name == "broken" => Err(fatal("it is broken")),
        (_, 1) => Err("not yet".into()),
        _ => Err("not now".into()),
    }
}

#[tokio::test]
async fn a_hook_hears_of_each_attempt_at_a_row_that_failed_in_both_modes() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let table = |name: &str| {
        format!(
            "create table {name} (id bigint primary key, name text not null, status text not null default 'pending');
             create index on {name} (id) where status = 'pending';
             insert into {name} select i, case when i = 3 then 'broken' else '' end from generate_series(1, 4) i;
             insert into watchbell.watches (name, table_name, handler, poll_interval, max_attempts, retry)
             values ('{name}', '{name}', '{name}', '100 ms', 2, '{{\"strategy\": \"fixed\", \"base\": \"50ms\", \"jitter\": false}}');"
        )
    };
    let tables = ["leased", "single", "batched"];
    execute(&database, &format!("set client_min_messages = error; {}", tables.map(table).concat())).await;

    let told = Arc::new(Mutex::new(vec![]));
    let notes = Arc::clone(&told);
    let note = move |event: RowEvent| {
        let RowEvent { watch, key, step, handler, attempt, max_attempts, state, error, again_in, .. } = event;
        let again = again_in.map(|wait| format!(", again in {wait:?}")).unwrap_or_default();
        assert_eq!((watch.as_str(), step.as_str()), (handler.as_str(), "pending"));
        let said = error.lines().next().unwrap_or_default();
        notes
            .lock()
            .unwrap()
            .push(format!("{watch} {} {attempt}/{max_attempts} {state}: {said}{again}", key.join(",")));
        std::future::ready(())
    };
    let worker = hand(pool, "hooked")
        .handler("leased", async |host: Row<Host>, ctx: Context| init(&host, ctx.attempt()))
        .transactional("single", async |_: Tx, host: Row<Host>, ctx: Context| init(&host, ctx.attempt()))
        .transactional("batched", async |_: Tx, hosts: Rows<Host>, ctx: Context| {
            hosts.iter().try_for_each(|host| init(host, ctx.attempt()))
        })
        .on_row_failed(note);
    let worker = start(worker);
    for table in tables {
        until_true(pool, &format!("not exists (select from {table} where status = 'pending')"), PATIENCE).await;
    }
    worker.stop().await;

    let mut told = told.lock().unwrap().clone();
    told.sort();
    let of = |watch: &str| {
        [
            format!("{watch} 1 1/2 pending: not yet, again in 50ms"),
            format!("{watch} 1 2/2 failed: not now"),
            format!("{watch} 3 1/2 failed: it is broken"),
        ]
    };
    let expected: Vec<String> = ["batched", "leased", "single"].iter().flat_map(|watch| of(watch)).collect();
    assert_eq!(told, expected);
}

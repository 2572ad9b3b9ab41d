//! What `/metrics` says of watches is what their tables say.

use crate::support::Database;
use crate::support::commands::Program;
use crate::support::pages::{Scrape, free_address};
use crate::support::wait::until;
use crate::support::watched::{PATIENCE, hosts, watch};

/// A worker that shells and serves its metrics.
fn worker(database: &Database) -> (Program, String) {
    let address = free_address();
    let options = ["--enable-sql", "--enable-shell", "--shell-programs", "sh", "--listen", &address];
    (Program::quiet_worker(&database.url, &options), address)
}

#[tokio::test]
async fn calls_of_handlers_are_measured_by_step_and_the_owner_is_told() {
    let mut scene = hosts(5).await;
    let steps = r#"[{"from": "pending", "to": "prepared", "handler": "shell", "payload": {"argv": ["sh", "-c", "sleep 0.02"]}},
                    {"from": "prepared", "to": "normal", "handler": "sql",
                     "payload": {"statement": "insert into effects (host) select id from claimed"}}]"#;
    let values = format!("'hosts', '{steps}', 'shop-team'");
    watch(&mut scene, "hosts", "table_name, transitions, owner", &values).await;
    let (worker, address) = worker(&scene.database);
    let scrape = until("all rows are counted", PATIENCE, async || {
        let scrape = Scrape::of(&address).await?;
        let all = "watchbell_watch_rows_total{watch=\"hosts\",status=\"normal\"}";
        let told = scrape.sum("watchbell_watch_info", "") > 0.0;
        (told && scrape.value(all) == Some(10.0)).then_some(scrape)
    });
    let scrape = scrape.await.0;
    drop(worker);
    let of = |what: &str, step: &str| {
        let name = format!("watchbell_watch_handler_duration_seconds_{what}");
        scrape.sum(&name, &format!("watch=\"hosts\",step=\"{step}\""))
    };
    assert_eq!(of("count", "pending"), 5.0, "one call a row");
    assert!(of("sum", "pending") >= 0.1, "each sleeps");
    let batches = of("count", "prepared");
    assert!((1.0..=5.0).contains(&batches), "one call a batch: {batches}");
    assert_eq!(scrape.value("watchbell_watch_info{watch=\"hosts\",owner=\"shop-team\"}"), Some(1.0));
}

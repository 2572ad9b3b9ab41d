//! What the statements of leased mode read does not grow with the claims of others, nor with the square of a batch.
//!
//! Their plans are made once for a session, here as there while `watch_claims` is empty. Measured is what the parts of
//! a plan read and threw away, counted by PostgreSQL itself.

use serde_json::Value;
use watchbell::watch::{Plan, read};
use watchbell::{Context, Registry};

use crate::support::Scene;
use crate::support::scene::Worker;

/// A watched table, with the claim and the end of a batch of its rows prepared while nothing is claimed.
struct Prepared {
    scene: Scene,
    worker: Worker,
}

impl Prepared {
    async fn new() -> Self {
        let mut scene = Scene::new().await;
        let tables = "create table hosts (id bigint primary key, status text not null default 'pending');
            create index on hosts (id) where status = 'pending';
            insert into hosts select i from generate_series(1, 1000) i;
            analyze hosts; analyze watchbell.watch_claims";
        scene.psql(tables).await;
        let watch = "insert into watchbell.watches (name, table_name, handler, via_state)
            values ('hosts', 'public.hosts', 'work', 'working') returning id";
        let id = scene.value(watch).await;
        let watch = read::read(&mut scene.sql, id).await.unwrap().expect("the watch is there");
        let registry = Registry::new().handler("work", async |_: Context| {});
        let plan = Plan::of(&mut scene.sql, watch, &registry).await.unwrap();
        let leased = &plan.steps[0].leased;
        scene.psql(format!("prepare claim as {}; prepare finish as {}", leased.claim(false), leased.finish())).await;
        let worker = scene.worker("a", &["work"]).await;
        let mut prepared = Self { scene, worker };
        prepared.work(1).await;
        prepared
    }

    /// Claims a batch and ends it. Answers how many rows the parts of each plan read.
    async fn work(&mut self, batch: usize) -> [u64; 2] {
        let claim = self.read_by(&format!("claim ({}, {batch})", self.worker.id())).await;
        // both in the order of their keys, which are texts
        let (id, key) = ("array_agg(id order by key)::text", "array_agg(key[1] order by key)::text");
        let claimed = "from watchbell.watch_claims where claimed_by is not null";
        let ids: String = self.scene.value(format!("select {id} {claimed}")).await;
        let keys: String = self.scene.value(format!("select {key} {claimed}")).await;
        let all = |value: &str| format!("array_fill({value}, array[{batch}])");
        let lists = [
            format!("'{ids}'"),
            all("1::bigint"),
            all(&self.worker.id().to_string()),
            all("'normal'::text"),
            all("null::bigint"),
            all("false"),
            all("false"),
            all("null::text"),
            all("null::text"),
            all("null::text"),
            all("null::bytea"),
            format!("'{keys}'"),
        ];
        let finish = self.read_by(&format!("finish ({})", lists.join(", "))).await;
        let left: i64 = self.scene.value(format!("select count(*) {claimed}")).await;
        assert_eq!(left, 0, "all {batch} are ended");
        [claim, finish]
    }

    async fn read_by(&mut self, call: &str) -> u64 {
        let plan: Value = self.scene.value(format!("explain (analyze, timing off, format json) execute {call}")).await;
        let read = read_by(&plan[0]["Plan"]);
        assert!(read > 0.0, "{plan}");
        read as u64
    }
}

/// Rows that a part of a plan, and the parts below it, brought or threw away, over all their loops.
fn read_by(part: &Value) -> f64 {
    let number = |name: &str| part[name].as_f64().unwrap_or_default();
    let thrown: f64 = ["Rows Removed by Filter", "Rows Removed by Join Filter"].into_iter().map(number).sum();
    let below = part["Plans"].as_array().into_iter().flatten().map(read_by).sum::<f64>();
    (number("Actual Rows") + thrown) * number("Actual Loops") + below
}

#[tokio::test]
async fn claims_that_wait_cost_a_batch_of_others_nothing() {
    let mut hosts = Prepared::new().await;
    let [claim, finish] = hosts.work(10).await;
    // their rows wait behind those that are worked here
    let waiting = "insert into watchbell.watch_claims (watch_id, key, step, fence, attempt, due_at)
        select w.id, array[(1000000 + i)::text], 'pending', 1, 1, 'infinity'
        from watchbell.watches w, generate_series(1, 20000) i";
    assert_eq!(hosts.scene.psql(waiting).await, 20_000);
    let [claim_beside, finish_beside] = hosts.work(10).await;
    assert!(claim_beside <= claim + 20, "{claim_beside} rows read by a claim, {claim} without others");
    assert!(finish_beside <= finish + 20, "{finish_beside} rows read by an end, {finish} without others");
}

#[tokio::test]
async fn a_batch_four_times_as_large_reads_four_times_as_much() {
    let mut hosts = Prepared::new().await;
    let small = hosts.work(50).await;
    let large = hosts.work(200).await;
    for (what, small, large) in [("claim", small[0], large[0]), ("end", small[1], large[1])] {
        assert!(large <= 5 * small, "a {what} of 200 reads {large} rows, of 50 {small}");
    }
}

//! Limits of queues held by real workers: while they are killed, while limits change, over real seconds.

use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;
use watchbell::client::Queue;
use watchbell::millis;

use crate::support::Database;
use crate::support::ask::{insert, one, row, until_status};
use crate::support::crew::{Running, start};
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(30);

/// The last run of the queue has ended.
const ALL_OVER: &str = "not exists (select from watchbell.runs_live where queue = 'q')";

async fn crew(pool: &PgPool, orders: &[Orders]) -> Vec<Running> {
    let crew: Vec<_> = orders.iter().map(|orders| start(orders.worker())).collect();
    let there = format!(
        "select count(*) = {} from watchbell.workers where state = 'running' and presence and name <> 'victim'",
        orders.len()
    );
    until_true(pool, &there, SOON).await;
    crew
}

async fn work(pool: &PgPool, ms: u64, count: u64) {
    let many = "insert into watchbell.runs (handler, queue, payload)
                select 'work', 'q', jsonb_build_object('ms', $1::bigint) from generate_series(1, $2::bigint)";
    sqlx::query(many).bind(ms as i64).bind(count as i64).execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_strict_queue_keeps_its_order_when_the_worker_of_its_head_is_killed() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    Queue::new("q").fifo().upsert(pool).await.unwrap();
    let mut victim = Process::start(&Orders::new(&database.url, &journal, "victim"));
    let head = insert(pool, "work", &[("queue", "'q'"), ("payload", "'{\"ms\": 60000}'")]).await;
    until_status(pool, head, "running", SOON).await;
    let orders = ["a", "b"].map(|name| Orders::new(&database.url, &journal, name));
    let heirs = crew(pool, &orders).await;
    work(pool, 5, 8).await;
    victim.kill();
    until_true(pool, ALL_OVER, SOON).await;
    let entries = journal.entries();
    let mut order = vec![(head, 1, "start".to_owned())];
    for (n, id) in (head..=head + 8).enumerate() {
        let attempt = if n == 0 { 2 } else { 1 };
        order.extend(["start", "end"].map(|event| (id, attempt, event.to_owned())));
    }
    let seen: Vec<_> = entries.into_iter().map(|e| (e.run, e.attempt, e.event)).collect();
    assert_eq!(seen, order, "in order, and none starts before the one before it has ended");
    assert_eq!(one::<i32>(pool, "select running from watchbell.limits where key = 'queue:q'").await, 0);
    for heir in heirs {
        heir.stop().await;
    }
}

#[tokio::test]
async fn a_limit_that_is_lowered_and_raised_under_load_is_never_exceeded() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    Queue::new("q").max_running(4).upsert(pool).await.unwrap();
    let orders = ["a", "b", "c"].map(|name| Orders::new(&database.url, &journal, name));
    let crew = crew(pool, &orders).await;
    work(pool, 10, 600).await;
    let mut looks = 0;
    for limit in [1, 6, 2, 8, 3] {
        Queue::new("q").max_running(limit).upsert(pool).await.unwrap();
        // a claim that read the limit before has the row of the counter until it is committed
        sqlx::query("select from watchbell.limits where key = 'queue:q' for update").execute(pool).await.unwrap();
        let room =
            format!("(select count(*) from watchbell.runs_live where queue = 'q' and status = 'running') <= {limit}");
        until_true(pool, &room, SOON).await;
        let began: i64 = one(pool, "select count(*) from watchbell.runs_finished").await;
        let enough = began + 20 * i64::from(limit).min(4);
        loop {
            let (running, miscounted, over): (i64, bool, i64) = sqlx::query_as(
                "select (select count(*) from watchbell.runs_live r where r.queue = 'q' and r.status = 'running'),
                        exists (select from watchbell.limits l where l.key = 'queue:q' and l.running <> (
                            select count(*) from watchbell.runs_live r
                            where r.concurrency_key = 'queue:q' and r.status = 'running')),
                        (select count(*) from watchbell.runs_finished)",
            )
            .fetch_one(pool)
            .await
            .unwrap();
            assert!(running <= i64::from(limit) && !miscounted, "{running} of {limit} run, miscounted: {miscounted}");
            looks += 1;
            if over >= enough {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert!(looks > 50, "{looks} looks");
    Queue::new("q").upsert(pool).await.unwrap();
    until_true(pool, ALL_OVER, SOON).await;
    assert_eq!(one::<i64>(pool, "select sum(running)::bigint from watchbell.limits").await, 0);
    for worker in crew {
        worker.stop().await;
    }
}

#[tokio::test]
async fn three_workers_together_keep_to_a_rate() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    Queue::new("q").rate(20, millis(1000)).upsert(pool).await.unwrap();
    let orders = ["a", "b", "c"].map(|name| Orders::new(&database.url, &journal, name));
    let crew = crew(pool, &orders).await;
    let began = Instant::now();
    work(pool, 0, 70).await;
    until_true(pool, ALL_OVER, SOON).await;
    assert!(began.elapsed() >= Duration::from_millis(2490), "70 starts took {:?}", began.elapsed());
    // a burst of 20 and what is refilled meanwhile
    let most: i64 = one(
        pool,
        "select max(n) from (select count(*) over (order by started_at range between current row
             and interval '1 s' following) as n from watchbell.runs_finished where queue = 'q') x",
    )
    .await;
    assert!(most <= 42, "{most} starts within a second");
    for worker in crew {
        worker.stop().await;
    }
}

#[tokio::test]
async fn an_idle_worker_looks_again_when_the_rate_has_its_next_start() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    Queue::new("q").rate(1, millis(100)).upsert(pool).await.unwrap();
    let crew = crew(pool, &[Orders::new(&database.url, &journal, "a")]).await;
    let began = Instant::now();
    work(pool, 0, 21).await;
    until_true(pool, ALL_OVER, SOON).await;
    let took = began.elapsed();
    // by heartbeats alone, one a second, it would be 20 s
    assert!(took >= Duration::from_millis(1990) && took < Duration::from_secs(10), "{took:?}");
    for worker in crew {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_cancelled_run_makes_room_and_tells_its_channel() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    Queue::new("q").max_running(1).upsert(pool).await.unwrap();
    let mut listener = PgListener::connect(&database.url).await.unwrap();
    listener.listen("q_done").await.unwrap();
    let crew = crew(pool, &[Orders::new(&database.url, &journal, "a")]).await;
    let more = [("queue", "'q'"), ("payload", "'{\"ms\": 60000}'"), ("notify_channel", "'q_done'")];
    let long = insert(pool, "work", &more).await;
    until_status(pool, long, "running", SOON).await;
    let next = insert(pool, "work", &[("queue", "'q'"), ("payload", "'{\"ms\": 0}'")]).await;
    sqlx::query(AssertSqlSafe(format!("select watchbell.cancel({long})"))).execute(pool).await.unwrap();
    let heard = tokio::time::timeout(SOON, listener.recv()).await.unwrap().unwrap();
    let heard: serde_json::Value = serde_json::from_str(heard.payload()).unwrap();
    assert_eq!(heard, serde_json::json!({"run_id": long, "handler": "work", "status": "cancelled", "attempt": 1}));
    assert_eq!(row(pool, long).await.status.as_str(), "cancelled", "it is told when it is so");
    until_status(pool, next, "normal", SOON).await;
    let (running, _) = until("the count is 0", SOON, async || {
        Some(one::<i32>(pool, "select running from watchbell.limits where key = 'queue:q'").await).filter(|n| *n == 0)
    })
    .await;
    assert_eq!(running, 0);
    for worker in crew {
        worker.stop().await;
    }
}

//! Limits of queues: so many at once, strict order, so many starts per period, so many waiting.

use chrono::TimeDelta;
use watchbell::Error;
use watchbell::client::insert_many;
use watchbell::lifecycle::finish::finish;
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::scene::{failure, verdict};

#[tokio::test]
async fn a_queues_limit_holds_for_four_claimers_also_when_it_is_set_while_they_work() {
    const RUNS: u64 = 600;
    let mut scene = Scene::new().await;
    scene.psql("insert into watchbell.queues (name) values ('q')").await;
    scene
        .enqueue_many(
            "handler, queue, concurrency_key",
            format!("'mail', 'q', case when i % 5 = 0 then 'k' end from generate_series(1, {RUNS}) i"),
        )
        .await;
    scene.psql("insert into watchbell.limits (key) values ('k')").await;
    // once all that ran before are counted, the count never rises above the limit: neither by a claim, nor because a
    // run turns up that was claimed past it
    scene
        .psql(
            "create function over_limit() returns trigger language plpgsql as $$
             begin
                 if old.epoch > 0 and new.running > old.running and new.running > 3 then
                     raise exception 'the limit is exceeded: % running', new.running;
                 end if;
                 return null;
             end $$;
             create trigger over_limit after update on watchbell.limits for each row when (new.key = 'queue:q')
             execute function over_limit()",
        )
        .await;
    let now = scene.now();
    let mut claimers = tokio::task::JoinSet::new();
    for name in ["a", "b", "c", "d"] {
        let mut worker = scene.worker(name, &["mail"]).await;
        let mut connection = scene.connect().await;
        claimers.spawn(async move {
            let (mut finished, mut idle) = (0, 0);
            while idle < 50 {
                let runs = worker.claim(&mut connection, 5, Some(now)).await.unwrap();
                let miscounted: i64 = sqlx::query_scalar(
                    "select count(*) from watchbell.limits l where l.key = 'queue:q' and l.running <> (select count(*) \
                     from watchbell.runs_live r where r.concurrency_key = l.key and r.status = 'running')",
                )
                .fetch_one(&mut connection)
                .await
                .unwrap();
                assert_eq!(miscounted, 0);
                idle = if runs.is_empty() { idle + 1 } else { 0 };
                let limited = runs.iter().filter(|run| run.concurrency_key.as_deref() == Some("queue:q")).count();
                assert!(limited <= 3, "{limited}");
                let mut batch: Vec<_> = runs.iter().map(|run| verdict(run, Event::Succeeded)).collect();
                while !batch.is_empty() {
                    let recorded = finish(&mut connection, batch, Some(now)).await.unwrap();
                    finished += recorded.accepted.len() as u64;
                    batch = recorded.held;
                }
            }
            finished
        });
    }
    scene.psql("update watchbell.queues set max_running = 3 where name = 'q'").await;
    assert_eq!(claimers.join_all().await.iter().sum::<u64>(), RUNS);
    assert_eq!(scene.value::<i64>("select sum(running) from watchbell.limits").await, 0);
}

#[tokio::test]
async fn runs_that_run_already_count_when_a_limit_is_set() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.psql("insert into watchbell.queues (name) values ('q')").await;
    scene.enqueue_many("handler, queue", "'mail', 'q' from generate_series(1, 6) i").await;
    let first = scene.claim(&mut a, 3).await;
    scene.psql("update watchbell.queues set max_running = 2 where name = 'q'").await;
    assert_eq!(scene.claim_quick(&mut a, 10).await.len(), 0, "a lane known from before");
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.end(&first[0], Event::Succeeded).await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.end(&first[1], Event::Succeeded).await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 1);
    scene.psql("update watchbell.queues set max_running = null where name = 'q'").await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 2);
}

#[tokio::test]
async fn a_strict_queue_keeps_its_order_across_a_retry() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.psql("insert into watchbell.queues (name, fifo) values ('q', true)").await;
    scene.enqueue_many("handler, queue, priority", "'mail', 'q', 9 - i from generate_series(1, 3) i").await;
    let first = scene.claim_one(&mut a).await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.end(&first, failure()).await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0, "it waits for its retry, and all behind it wait");
    scene.advance(TimeDelta::minutes(1)).await;
    let mut last = 0;
    for attempt in [2, 1, 1] {
        let run = scene.claim_one(&mut a).await;
        assert_eq!(run.attempt, attempt);
        assert!(run.id > last);
        last = run.id;
        scene.end(&run, Event::Succeeded).await;
    }
}

#[tokio::test]
async fn a_rate_is_a_bucket_that_refills_by_the_databases_clock() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.psql("insert into watchbell.queues (name, rate_limit, rate_period) values ('q', 5, '10 s')").await;
    scene.enqueue_many("handler, queue", "'mail', 'q' from generate_series(1, 50) i").await;
    assert_eq!(scene.claim(&mut a, 100).await.len(), 5);
    assert_eq!(scene.claim(&mut a, 100).await.len(), 0);
    scene.advance(TimeDelta::seconds(2)).await;
    assert_eq!(scene.claim(&mut a, 100).await.len(), 1);
    scene.advance(TimeDelta::seconds(100)).await;
    assert_eq!(scene.claim(&mut a, 100).await.len(), 5, "no more than its limit, however long it rested");
}

#[tokio::test]
async fn a_full_queue_refuses_one_run_and_many() {
    let mut scene = Scene::new().await;
    scene.psql("insert into watchbell.queues (name, max_pending) values ('q', 2)").await;
    let run = scene.new_run("mail").queue("q");
    let many = insert_many(&mut scene.sql, vec![run.clone(), run.clone(), run.clone()]).await;
    assert!(matches!(many, Err(Error::Full(_))), "{many:?}");
    assert_eq!(insert_many(&mut scene.sql, vec![run.clone()]).await.unwrap(), 1);
    scene.insert(run.clone()).await;
    let refused = run.insert(&mut scene.sql).await.unwrap_err();
    assert_eq!(refused.to_string(), "queue \"q\" is full: its limit is 2 waiting runs");
}

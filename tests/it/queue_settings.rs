//! Limits of queues as people set them: by rows, and by the client.

use watchbell::Error;
use watchbell::client::{Change, Queue};
use watchbell::{millis, minutes};

use crate::support::Scene;

#[tokio::test]
async fn a_queue_is_declared_again_and_again_and_changes_once() {
    let mut scene = Scene::new().await;
    let queue = Queue::new("mail").max_running(5).rate(100, minutes(1)).max_pending(7);
    assert_eq!(queue.upsert(&mut scene.sql).await.unwrap(), Change::Inserted);
    assert_eq!(queue.upsert(&mut scene.sql).await.unwrap(), Change::Unchanged);
    scene.psql("select watchbell.pause_queue('mail')").await;
    let strict = Queue::new("mail").fifo();
    assert_eq!(strict.upsert(&mut scene.sql).await.unwrap(), Change::Updated);
    let stored = "select concat_ws(' ', fifo, rate_period, paused_at is not null, \
                  num_nulls(max_running, rate_limit, max_pending)) from watchbell.queues where name = 'mail'";
    assert_eq!(scene.value::<String>(stored).await, "t 00:00:01 t 3");
    assert_eq!(
        scene.values::<String>("select what from watchbell.activity where name = 'mail' order by id").await,
        ["insert", "pause", "update"]
    );
    let after = "select after->>'fifo' from watchbell.activity where name = 'mail' and what = 'update'";
    assert_eq!(scene.value::<String>(after).await, "true");
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused_in_one_sentence() {
    let mut scene = Scene::new().await;
    for (queue, sentence) in [
        (
            Queue::new("q").fifo().max_running(2),
            "queue \"q\": max_running 2 contradicts fifo, which runs one at a time",
        ),
        (Queue::new("q").max_running(0), "queue \"q\": max_running 0 is out of range 1-1000000"),
        (Queue::new("q").rate(0, minutes(1)), "queue \"q\": rate_limit 0 is out of range 1-1000000"),
        (Queue::new("a b"), "queue \"a b\" is not a valid name"),
    ] {
        let refused = queue.upsert(&mut scene.sql).await.unwrap_err().to_string();
        assert!(refused.contains(sentence), "{refused}");
    }
    let refused = Queue::new("q").rate(1, millis(0)).upsert(&mut scene.sql).await.unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }) && refused.to_string().contains("rate_period"), "{refused}");
}

#[tokio::test]
async fn a_full_queue_refuses_rows_and_functions_but_no_retry() {
    let mut scene = Scene::new().await;
    Queue::new("q").max_pending(2).upsert(&mut scene.sql).await.unwrap();
    scene.psql("select watchbell.enqueue('mail', queue => 'q')").await;
    for statement in [
        "select watchbell.enqueue_many('mail', array['{}', '{}']::jsonb[], queue => 'q')",
        "insert into watchbell.runs (handler, queue) values ('mail', 'q'), ('mail', 'q')",
        "select watchbell.enqueue('mail', queue => 'q') from generate_series(1, 2)",
    ] {
        let refused = sqlx::query(statement).execute(&mut scene.sql).await.unwrap_err();
        let refused = refused.into_database_error().unwrap();
        assert_eq!(refused.code().as_deref(), Some("53400"), "{statement}: {refused}");
        assert_eq!(refused.message(), "queue \"q\" is full: its limit is 2 waiting runs");
    }
    let second: i64 = scene.value("select watchbell.enqueue('mail', queue => 'q')").await;
    scene.psql(format!("select watchbell.cancel({second})")).await;
    scene.psql("select watchbell.enqueue('mail', queue => 'q')").await;
    scene.psql(format!("select watchbell.retry({second})")).await;
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs_live where queue = 'q'").await, 3);
}

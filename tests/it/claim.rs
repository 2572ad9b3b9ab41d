//! Which runs a worker takes, in which order, and how little it looks at for that.

use chrono::TimeDelta;
use sqlx::Connection;
use watchbell::lifecycle::claim::Claimed;
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::scene::Worker;

/// A thorough claim, and how many rows and index entries of runs_live it read.
async fn measured_claim(scene: &mut Scene, worker: &mut Worker) -> (Vec<Claimed>, i64) {
    // counted by the session, and not sent off (which begins anew) before the transaction ends
    let count = "select pg_stat_get_xact_tuples_returned('watchbell.runs_live'::regclass) \
                     + sum(pg_stat_get_xact_tuples_returned(i.indexrelid))::bigint \
                 from pg_index i where i.indrelid = 'watchbell.runs_live'::regclass";
    scene.psql("begin").await;
    let before: i64 = scene.value(count).await;
    let claimed = scene.claim(worker, 10).await;
    let after: i64 = scene.value(count).await;
    scene.psql("commit").await;
    (claimed, after - before)
}

#[tokio::test]
async fn runs_are_claimed_by_priority_then_due_time_then_age() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let columns = "priority, handler, payload";
    scene.enqueue_many(columns, "i * 7 % 10, 'mail', '{}' from generate_series(1, 60) i").await;
    scene.psql("update watchbell.runs_live set run_at = run_at - (id * 11 % 5) * interval '1 s'").await;
    let order: Vec<i64> = scene.values("select id from watchbell.runs_live order by priority, run_at, id").await;
    let mut claimed = vec![];
    for limit in [1, 2, 5, 13, 39] {
        let runs = scene.claim(&mut a, limit).await;
        assert_eq!(runs.len() as i64, limit);
        claimed.extend(runs.iter().map(|run| run.id));
    }
    assert_eq!(claimed, order);
}

#[tokio::test]
async fn a_claim_raises_fence_and_attempt_and_names_its_worker() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.enqueue("mail").await;
    let claimed = scene.claim_one(&mut a).await;
    assert_eq!((claimed.id, claimed.fence, claimed.attempt), (id, 1, 1));
    let run = scene.run(id).await;
    assert_eq!((run.status.as_str(), run.claimed_by, run.started_at), ("running", Some(a.id()), Some(scene.now())));
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
}

#[tokio::test]
async fn a_run_is_not_claimed_before_its_time() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let later = scene.new_run("mail").run_at(scene.now() + TimeDelta::minutes(5));
    scene.insert(later).await;
    scene.advance(TimeDelta::minutes(5) - TimeDelta::milliseconds(1)).await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.advance(TimeDelta::milliseconds(1)).await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 1);
}

#[tokio::test]
async fn future_runs_at_a_better_priority_cost_a_claim_nothing() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.enqueue_many_in("1 day", "priority, handler", "0, 'mail' from generate_series(1, 200000)").await;
    let id = scene.enqueue("mail").await;
    let (claimed, examined) = measured_claim(&mut scene, &mut a).await;
    assert_eq!(claimed.iter().map(|run| run.id).collect::<Vec<_>>(), [id]);
    assert!(examined < 50, "{examined} rows and entries for one run");
}

#[tokio::test]
async fn queues_of_equal_priority_take_turns() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.psql("insert into watchbell.queues (name) values ('left'), ('right')").await;
    for queue in ["left", "right"] {
        scene.enqueue_many("queue, handler", format!("'{queue}', 'mail' from generate_series(1, 20)")).await;
    }
    let mut left = 0;
    for _ in 0..10 {
        left += usize::from(scene.claim_one_of(&mut a).await.queue == "left");
    }
    assert_eq!(left, 5);
}

#[tokio::test]
async fn a_paused_queue_rests_until_it_is_resumed() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    for run in [scene.new_run("mail").queue("slow"), scene.new_run("mail").queue("slow").concurrency_key("k")] {
        scene.insert(run).await;
    }
    scene.psql("update watchbell.queues set paused_at = now() where name = 'slow'").await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.psql("update watchbell.queues set paused_at = null where name = 'slow'").await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 2);
}

#[tokio::test]
async fn a_worker_takes_only_its_queues() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    a.who.queues = Some(vec!["mine".to_owned()]);
    let mut mine = vec![];
    for key in [None, Some("k")] {
        for queue in ["mine", "other"] {
            let run = scene.new_run("mail").queue(queue);
            let id = scene.insert(match key {
                Some(key) => run.concurrency_key(format!("{key}-{queue}")),
                None => run,
            });
            let id = id.await;
            mine.extend((queue == "mine").then_some(id));
        }
    }
    let claimed: Vec<i64> = scene.claim(&mut a, 10).await.iter().map(|run| run.id).collect();
    assert_eq!(claimed, mine);
}

#[tokio::test]
async fn a_target_is_met_only_by_a_worker_with_all_its_labels() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let run = scene.new_run("mail").target("disk=ssd,zone=b");
    scene.insert(run).await;
    for labels in [&[][..], &["disk=ssd"], &["disk=hdd", "zone=b"]] {
        a.who.labels = labels.iter().map(|&label| label.to_owned()).collect();
        assert_eq!(scene.claim(&mut a, 10).await.len(), 0, "{labels:?}");
    }
    a.who.labels = ["zone=b", "cpu=arm", "disk=ssd"].map(str::to_owned).to_vec();
    assert_eq!(scene.claim(&mut a, 10).await.len(), 1);
}

#[tokio::test]
async fn runs_that_nobody_here_serves_do_not_hide_those_behind_them() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.enqueue_many_in("-1 s", "handler", "'unserved' from generate_series(1, 20000)").await;
    let id = scene.enqueue("mail").await;
    let mut sweeps = 0;
    loop {
        sweeps += 1;
        let (claimed, examined) = measured_claim(&mut scene, &mut a).await;
        assert!(examined < 11_000, "sweep {sweeps} examined {examined} rows and entries");
        if let Some(run) = claimed.first() {
            assert_eq!(run.id, id);
            break;
        }
        assert!(sweeps < 5, "not found by 5 sweeps of 5,000");
    }
}

#[tokio::test]
async fn a_sweep_that_reached_the_end_starts_over() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.enqueue_many("handler", "'unserved' from generate_series(1, 12000)").await;
    for _ in 0..2 {
        let earlier = scene.new_run("mail").run_at(scene.now() - TimeDelta::hours(1));
        scene.insert(earlier).await;
        let mut found = 0;
        for _ in 0..4 {
            found += scene.claim(&mut a, 10).await.len();
        }
        assert_eq!(found, 1);
    }
}

#[tokio::test]
async fn a_run_committed_behind_the_low_water_mark_is_found_by_a_sweep() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let mut producer = scene.connect().await;
    let mut late = producer.begin().await.unwrap();
    let run_at = [TimeDelta::minutes(1), TimeDelta::milliseconds(500)].map(|by| scene.now() - by);
    for at in run_at {
        scene.new_run("mail").run_at(at).insert(&mut *late).await.unwrap();
    }
    scene.enqueue("mail").await;
    scene.enqueue("mail").await;
    assert_eq!(scene.claim(&mut a, 1).await.len(), 1, "the sweep learns the lane");
    assert_eq!(scene.claim_quick(&mut a, 1).await.len(), 1, "the quick claim raises the mark");
    late.commit().await.unwrap();
    let soon: Vec<_> = scene.claim_quick(&mut a, 10).await.iter().map(|run| run.run_at).collect();
    assert_eq!(soon, run_at[1..], "within the slack of a second");
    let swept: Vec<_> = scene.claim(&mut a, 10).await.iter().map(|run| run.run_at).collect();
    assert_eq!(swept, run_at[..1]);
}

#[tokio::test]
async fn a_worker_that_drains_or_let_its_lease_lapse_claims_nothing() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.enqueue("mail").await;
    let keyed = scene.new_run("mail").concurrency_key("k");
    scene.insert(keyed).await;
    scene.psql("update watchbell.workers set state = 'draining'").await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.psql("update watchbell.workers set state = 'running'").await;
    scene.silence(&a);
    scene.advance(TimeDelta::seconds(15)).await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.renew(&a).await.unwrap();
    assert_eq!(scene.claim(&mut a, 10).await.len(), 2);
}

#[tokio::test]
async fn runs_that_another_transaction_holds_are_passed_over() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let mut b = scene.worker("b", &["mail"]).await;
    scene.enqueue_many("handler", "'mail' from generate_series(1, 20)").await;
    let mut other = scene.connect().await;
    let mut open = other.begin().await.unwrap();
    let taken = a.claim(&mut open, 15, Some(scene.now())).await.unwrap();
    assert_eq!((taken.len(), scene.claim(&mut b, 15).await.len()), (15, 5));
    open.rollback().await.unwrap();
    assert_eq!(scene.claim(&mut b, 15).await.len(), 15);
}

#[tokio::test]
async fn a_unique_key_is_open_again_after_the_end_of_its_run() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let wanted = scene.new_run("mail").unique_key("invoice-7");
    scene.insert(wanted.clone()).await;
    assert_eq!(wanted.insert(&mut scene.sql).await.unwrap(), None, "waiting");
    let run = scene.claim_one(&mut a).await;
    assert_eq!(wanted.insert(&mut scene.sql).await.unwrap(), None, "running");
    scene.end(&run, Event::Succeeded).await;
    assert!(wanted.insert(&mut scene.sql).await.unwrap().is_some(), "over");
}

#[tokio::test]
async fn claims_change_rows_in_place() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.enqueue_many("handler", "'mail' from generate_series(1, 2000)").await;
    scene.psql("begin").await;
    let mut claimed = 0;
    while claimed < 2000 {
        claimed += scene.claim(&mut a, 100).await.len();
    }
    let hot: i64 = scene.value("select pg_stat_get_xact_tuples_hot_updated('watchbell.runs_live'::regclass)").await;
    scene.psql("commit").await;
    assert!(hot >= 1800, "{hot} of 2,000 claims were HOT");
}

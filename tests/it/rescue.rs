//! Who is declared dead, by whom, and what becomes of the runs that were in his hands.

use chrono::TimeDelta;
use sqlx::Connection;
use watchbell::lifecycle::rescue::{Judgement, declare_dead, orphans, strays};
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::scene::{BY_ALL, BY_LEASE, BY_PRESENCE, verdicts};

#[tokio::test]
async fn a_free_presence_lock_and_a_late_heartbeat_are_death() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let mut b = scene.present_worker("b", &["mail"]).await;
    scene.kill(&mut b).await;
    scene.advance(TimeDelta::milliseconds(1500)).await;
    assert_eq!(scene.judge(&judge, BY_PRESENCE).await, [], "its heartbeat is fresh");
    scene.advance(TimeDelta::milliseconds(1)).await;
    let dead = scene.judge(&judge, BY_PRESENCE).await;
    assert_eq!((dead.len(), dead[0].id, dead[0].silent.as_millis()), (1, b.id(), 1501));
    assert_eq!(scene.renew(&b).await, None, "it is told");
}

#[tokio::test]
async fn a_late_worker_whose_lock_is_held_lives() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let b = scene.present_worker("b", &["mail"]).await;
    scene.silence(&b);
    scene.advance(TimeDelta::seconds(10)).await;
    assert_eq!(scene.judge(&judge, BY_ALL).await, []);
    assert!(scene.renew(&judge).await.unwrap().peer_late);
    assert!(scene.renew(&b).await.is_some());
}

#[tokio::test]
async fn a_lease_that_ran_out_is_death_to_a_judge_by_lease_alone() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let b = scene.present_worker("b", &["mail"]).await;
    scene.silence(&b);
    scene.advance(TimeDelta::seconds(15)).await;
    assert_eq!(scene.judge(&judge, BY_LEASE).await, [], "to its last instant a lease holds");
    scene.advance(TimeDelta::milliseconds(1)).await;
    assert_eq!(scene.judge(&judge, BY_PRESENCE).await, [], "its lock is held");
    assert_eq!(scene.judge(&judge, BY_LEASE).await.len(), 1);
}

#[tokio::test]
async fn a_worker_that_never_showed_presence_is_judged_by_its_lease_alone() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let b = scene.worker("behind a pooler", &["mail"]).await;
    scene.silence(&b);
    scene.advance(TimeDelta::seconds(14)).await;
    assert_eq!(scene.judge(&judge, BY_ALL).await, []);
    scene.advance(TimeDelta::seconds(2)).await;
    assert_eq!(scene.judge(&judge, BY_ALL).await.len(), 1);
}

#[tokio::test]
async fn a_judge_that_may_go_by_nothing_declares_nobody_dead() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let mut b = scene.present_worker("b", &["mail"]).await;
    scene.kill(&mut b).await;
    scene.advance(TimeDelta::hours(1)).await;
    let nothing = Judgement { by_presence: false, by_lease: false };
    assert_eq!(scene.judge(&judge, nothing).await, []);
}

#[tokio::test]
async fn a_judge_never_declares_itself_dead() {
    let mut scene = Scene::new().await;
    let mut judge = scene.present_worker("judge", &["mail"]).await;
    scene.kill(&mut judge).await;
    scene.advance(TimeDelta::hours(1)).await;
    assert_eq!(scene.judge(&judge, BY_ALL).await, []);
}

#[tokio::test]
async fn two_judges_take_a_run_once() {
    let mut scene = Scene::new().await;
    let (a, b) = (scene.worker("a", &["mail"]).await, scene.worker("b", &["mail"]).await);
    let mut lost = scene.worker("lost", &["mail"]).await;
    let id = scene.enqueue("mail").await;
    scene.claim_one(&mut lost).await;
    scene.silence(&lost);
    scene.advance(TimeDelta::seconds(16)).await;
    let mut other = scene.connect().await;
    assert_eq!(scene.judge(&a, BY_ALL).await.len(), 1);
    assert_eq!(declare_dead(&mut other, b.id(), BY_ALL, Some(scene.now())).await.unwrap(), []);
    let (first, second) = (orphans(&mut scene.sql).await.unwrap(), orphans(&mut other).await.unwrap());
    assert_eq!(scene.record(verdicts(first)).await.accepted.len(), 1);
    assert_eq!(scene.record(verdicts(second)).await.superseded, [id]);
    let run = scene.run(id).await;
    assert_eq!((run.status.as_str(), run.crashes, run.attempt), ("pending", 1, 1));
}

#[tokio::test]
async fn a_claim_that_commits_after_its_workers_death_is_rescued_later() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let mut slow = scene.worker("slow", &["mail"]).await;
    let id = scene.enqueue("mail").await;
    let mut connection = scene.connect().await;
    let mut in_flight = connection.begin().await.unwrap();
    assert_eq!(slow.claim(&mut in_flight, 10, Some(scene.now())).await.unwrap().len(), 1);
    scene.silence(&slow);
    scene.advance(TimeDelta::seconds(16)).await;
    assert_eq!(scene.rescue(&judge).await.accepted.len(), 0, "nothing to be seen yet");
    in_flight.commit().await.unwrap();
    assert!(scene.renew(&judge).await.unwrap().recently_dead);
    assert_eq!(scene.rescue(&judge).await.accepted.len(), 1);
    assert_eq!(scene.status(id).await, "pending");
    scene.advance(TimeDelta::minutes(6)).await;
    assert!(!scene.renew(&judge).await.unwrap().recently_dead);
}

#[tokio::test]
async fn a_single_attempt_never_starts_twice() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let mut lost = scene.worker("lost", &["mail"]).await;
    let run = scene.new_run("mail").max_attempts(1);
    let id = scene.insert(run).await;
    scene.claim_one(&mut lost).await;
    scene.silence(&lost);
    scene.advance(TimeDelta::seconds(16)).await;
    scene.rescue(&judge).await;
    let run = scene.run(id).await;
    assert_eq!((run.status.as_str(), run.error.as_deref()), ("failed", Some("its worker died, on its last attempt")));
}

#[tokio::test]
async fn the_third_crash_fails_a_run() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let run = scene.new_run("mail").max_attempts(100);
    let id = scene.insert(run).await;
    for crash in 1..=3 {
        assert_eq!(scene.status(id).await, "pending");
        let mut lost = scene.worker("lost", &["mail"]).await;
        assert_eq!(scene.claim_one(&mut lost).await.crashes, crash - 1);
        scene.silence(&lost);
        scene.advance(TimeDelta::seconds(16)).await;
        scene.rescue(&judge).await;
    }
    let run = scene.run(id).await;
    assert_eq!((run.status.as_str(), run.crashes, run.attempt), ("failed", 3, 3));
    let kinds: Vec<String> = scene.values("select kind from watchbell.run_errors").await;
    assert_eq!(kinds, ["crashed"; 3]);
}

#[tokio::test]
async fn a_cancelled_run_of_a_dead_worker_ends_as_cancelled() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let mut lost = scene.worker("lost", &["mail"]).await;
    let id = scene.enqueue("mail").await;
    scene.claim_one(&mut lost).await;
    scene.psql(format!("select watchbell.cancel({id}, 'no need')")).await;
    scene.silence(&lost);
    scene.advance(TimeDelta::seconds(16)).await;
    scene.rescue(&judge).await;
    assert_eq!(scene.status(id).await, "cancelled");
}

#[tokio::test]
async fn a_worker_that_stopped_leaves_no_run_behind() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let mut gone = scene.worker("gone", &["mail"]).await;
    let id = scene.enqueue("mail").await;
    scene.claim_one(&mut gone).await;
    watchbell::lifecycle::register::stop(&mut scene.sql, gone.id()).await.unwrap();
    assert_eq!(scene.rescue(&judge).await.accepted.len(), 1);
    assert_eq!(scene.status(id).await, "pending");
}

#[tokio::test]
async fn a_live_workers_runs_are_left_alone() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.enqueue("mail").await;
    let run = scene.claim_one(&mut a).await;
    scene.advance(TimeDelta::hours(2)).await;
    assert_eq!(scene.rescue(&judge).await.accepted.len(), 0);
    scene.end(&run, Event::Succeeded).await;
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_goes_back_as_it_was() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let keyed = scene.new_run("mail").max_attempts(1).concurrency_key("k");
    let lost = scene.insert(keyed).await;
    let held = scene.enqueue("mail").await;
    assert_eq!(scene.claim(&mut a, 10).await.len(), 2);
    let found = strays(&mut scene.sql, a.id(), &[held]).await.unwrap();
    assert_eq!(scene.record(verdicts(found)).await.accepted.len(), 1);
    assert_eq!(scene.status(held).await, "running");
    let run = scene.claim_one(&mut a).await;
    assert_eq!((run.id, run.attempt, run.fence), (lost, 1, 2), "it never started");
}

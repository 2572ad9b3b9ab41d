//! `target = 'all'`: each fire time is one run on each live worker that matches.

use chrono::TimeDelta;
use watchbell::lifecycle::prune::{end_stranded, prune};
use watchbell::lifecycle::requests::requests;
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::ask::{insert, until_status};
use crate::support::crew::{hand, start};
use crate::support::scene::{Worker, failure};
use crate::support::watched::PATIENCE;

const RETENTION: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

async fn two(scene: &mut Scene) -> (Worker, Worker) {
    (scene.worker("a", &["mail"]).await, scene.worker("b", &["mail"]).await)
}

/// A schedule of one slot a minute on all workers, planned.
async fn everywhere(scene: &mut Scene, columns: &str, values: &str) -> i64 {
    let id = scene.schedule("e", &format!("fixed_rate, target{columns}"), &format!("'1 min', 'all'{values}")).await;
    scene.fire().await;
    id
}

async fn next_minute(scene: &mut Scene) -> u64 {
    scene.advance(TimeDelta::minutes(1)).await;
    scene.fire().await;
    let made = scene.value::<i64>("select count(*) from watchbell.runs_live where run_at = watchbell.clock()").await;
    made.unsigned_abs()
}

/// What became of each fire time: disposition, runs, workers, missed.
async fn told(scene: &mut Scene) -> Vec<String> {
    scene
        .values("select concat_ws(' ', disposition, runs, workers, missed) from watchbell.fires order by fire_at")
        .await
}

#[tokio::test]
async fn each_live_worker_that_matches_has_a_run_of_its_own() {
    let mut scene = Scene::new().await;
    let (mut a, mut b) = two(&mut scene).await;
    let mut other = scene.worker("other", &["else"]).await;
    let dead = scene.worker("dead", &["mail"]).await;
    scene.psql(format!("update watchbell.workers set state = 'dead' where id = {}", dead.id())).await;
    everywhere(&mut scene, "", "").await;
    assert_eq!(next_minute(&mut scene).await, 2);
    assert_eq!(scene.claim(&mut other, 10).await.len(), 0);
    let (of_a, of_b) = (scene.claim_one(&mut a).await, scene.claim_one(&mut b).await);
    assert_eq!(of_a.fire_at, of_b.fire_at);
    assert_eq!(scene.run(of_a.id).await.target, Some(format!("worker={}", a.id())));
    assert_eq!(told(&mut scene).await, ["run 2 2 0"]);
    let first: bool = scene.value("select run_id = (select min(id) from watchbell.runs) from watchbell.fires").await;
    assert!(first);
}

#[tokio::test]
async fn a_selector_behind_all_narrows_it_down() {
    let mut scene = Scene::new().await;
    let (mut a, mut b) = two(&mut scene).await;
    scene.psql(format!("update watchbell.workers set labels = '{{zone=a,disk=ssd}}' where id = {}", a.id())).await;
    scene.schedule("e", "fixed_rate, target", "'1 min', ' all : zone = a'").await;
    assert_eq!(scene.value::<String>("select target from watchbell.schedules").await, "all:zone=a");
    scene.fire().await;
    assert_eq!(next_minute(&mut scene).await, 1);
    assert_eq!(scene.claim(&mut b, 10).await.len(), 0);
    scene.claim_one(&mut a).await;
}

#[tokio::test]
async fn without_a_worker_the_fire_time_is_skipped_and_says_so() {
    let mut scene = Scene::new().await;
    everywhere(&mut scene, ", max_fires", ", 1").await;
    assert_eq!(next_minute(&mut scene).await, 0);
    assert_eq!(next_minute(&mut scene).await, 0);
    assert_eq!(told(&mut scene).await, ["skipped_no_worker 2"], "a streak is one row");
    scene.worker("a", &["mail"]).await;
    assert_eq!(next_minute(&mut scene).await, 1);
    assert_eq!(told(&mut scene).await, ["skipped_no_worker 2", "run 1 1 0"]);
    assert_eq!(scene.value::<String>("select status from watchbell.schedules").await, "done", "one fire was allowed");
}

#[tokio::test]
async fn overlap_looks_at_each_worker_by_itself() {
    let mut scene = Scene::new().await;
    let (mut a, mut b) = two(&mut scene).await;
    everywhere(&mut scene, ", overlap", ", 'skip'").await;
    next_minute(&mut scene).await;
    let slow = scene.claim_one(&mut a).await;
    let quick = scene.claim_one(&mut b).await;
    scene.end(&quick, Event::Succeeded).await;
    assert_eq!(next_minute(&mut scene).await, 1);
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.claim_one(&mut b).await;
    assert_eq!(next_minute(&mut scene).await, 0);
    scene.end(&slow, Event::Succeeded).await;
    assert_eq!(next_minute(&mut scene).await, 1);
    assert_eq!(told(&mut scene).await, ["run 2 2 0", "run 1 2 0", "skipped_overlap 1", "run 1 2 0"]);
}

#[tokio::test]
async fn queued_runs_take_turns_on_their_worker_only() {
    let mut scene = Scene::new().await;
    let (mut a, mut b) = two(&mut scene).await;
    everywhere(&mut scene, ", overlap", ", 'queue_all'").await;
    next_minute(&mut scene).await;
    let first = scene.claim_one(&mut a).await;
    scene.claim_one(&mut b).await;
    next_minute(&mut scene).await;
    assert_eq!((scene.claim(&mut a, 10).await.len(), scene.claim(&mut b, 10).await.len()), (0, 0));
    scene.end(&first, Event::Succeeded).await;
    assert_eq!((scene.claim(&mut a, 10).await.len(), scene.claim(&mut b, 10).await.len()), (1, 0));
    assert_eq!(told(&mut scene).await, ["run 2 2 0", "queued 2 2 0"]);
}

#[tokio::test]
async fn cancel_running_stops_only_the_busy_worker_s_run() {
    let mut scene = Scene::new().await;
    let (mut a, mut b) = two(&mut scene).await;
    everywhere(&mut scene, ", overlap", ", 'cancel_running'").await;
    next_minute(&mut scene).await;
    let busy = scene.claim_one(&mut a).await;
    let done = scene.claim_one(&mut b).await;
    scene.end(&done, Event::Succeeded).await;
    next_minute(&mut scene).await;
    let asked = requests(&mut scene.sql, a.id()).await.unwrap();
    assert_eq!(asked.cancel.iter().map(|ask| ask.0).collect::<Vec<_>>(), [busy.id]);
    assert_eq!(scene.claim(&mut b, 10).await.len(), 1);
}

#[tokio::test]
async fn a_fixed_delay_counts_from_the_end_of_the_last_worker() {
    let mut scene = Scene::new().await;
    let (mut a, mut b) = two(&mut scene).await;
    let id = scene.schedule("e", "fixed_delay, target, first_fire", "'10 min', 'all', 'at_once'").await;
    assert_eq!(scene.fire().await.runs, 1);
    let (of_a, of_b) = (scene.claim_one(&mut a).await, scene.claim_one(&mut b).await);
    scene.advance(TimeDelta::minutes(1)).await;
    scene.end(&of_a, Event::Succeeded).await;
    scene.fire().await;
    assert_eq!(scene.schedule_row(id).await.next_fire_at, None, "b is at it");
    scene.advance(TimeDelta::minutes(5)).await;
    scene.end(&of_b, failure()).await;
    scene.advance(TimeDelta::seconds(10)).await;
    let again = scene.claim_one(&mut b).await;
    let ended = scene.now();
    scene.end(&again, Event::Succeeded).await;
    scene.advance(TimeDelta::seconds(3)).await;
    scene.fire().await;
    assert_eq!(scene.schedule_row(id).await.next_fire_at, Some(ended + TimeDelta::minutes(10)));
}

#[tokio::test]
async fn a_run_whose_worker_is_gone_is_cancelled_before_and_after_its_start() {
    let mut scene = Scene::new().await;
    let mut judge = scene.worker("judge", &["else"]).await;
    let mut a = scene.present_worker("a", &["mail"]).await;
    let mut b = scene.present_worker("b", &["mail"]).await;
    everywhere(&mut scene, "", "").await;
    next_minute(&mut scene).await;
    scene.claim_one(&mut a).await; // runs
    scene.kill(&mut a).await; // b waits
    scene.kill(&mut b).await;
    scene.advance(TimeDelta::seconds(20)).await;
    scene.rescue(&judge).await;
    let now = scene.now();
    assert_eq!(end_stranded(&mut scene.sql, true, Some(now)).await.unwrap(), 2);
    let ends: Vec<String> = scene.values("select status || ': ' || error from watchbell.runs order by id").await;
    let sentence = |worker: &Worker| {
        format!("cancelled: expired: the worker that it was aimed at (worker={}) has ended", worker.id())
    };
    assert_eq!(ends, [sentence(&a), sentence(&b)]);
    assert_eq!(scene.claim(&mut judge, 10).await.len(), 0);
    let id: i64 = scene.value("select min(id) from watchbell.runs").await;
    let sentence = format!("run {id} cannot be retried: the worker that it was aimed at (worker={}) has ended", a.id());
    assert_eq!(refusal(&mut scene, &format!("retry({id})")).await, sentence);
}

#[tokio::test]
async fn what_was_aimed_at_a_dead_worker_ends_although_another_told_of_the_death() {
    let mut scene = Scene::new().await;
    let pool = scene.database.pool.clone();
    let dead = scene.worker("dead", &["mail"]).await.id();
    let run = insert(&pool, "mail", &[("target", &format!("'worker={dead}'"))]).await;
    let claimed = "status = 'running', started_at = now(), fence = 1, attempt = 1";
    scene.psql(format!("update watchbell.runs_live set {claimed}, claimed_by = {dead} where id = {run}")).await;
    // its death was told by somebody who has not taken back its run yet
    scene.psql(format!("update watchbell.workers set state = 'dead', ended_at = now() where id = {dead}")).await;
    // what is done every minute is not to end it
    scene.psql("select pg_advisory_lock(hashtextextended('watchbell:prune', 0))").await;
    let worker = start(hand(&pool, "one").handler("mail", async || {}));
    let ended = until_status(&pool, run, "cancelled", PATIENCE).await;
    let sentence = format!("expired: the worker that it was aimed at (worker={dead}) has ended");
    assert_eq!(ended.error.as_deref(), Some(sentence.as_str()));
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_leaves_none_waiting_even_if_the_schedule_is_deleted() {
    let mut scene = Scene::new().await;
    let (a, _) = two(&mut scene).await;
    everywhere(&mut scene, "", "").await;
    next_minute(&mut scene).await;
    scene.psql("select watchbell.unschedule('e')").await;
    let stop =
        format!("update watchbell.workers set state = 'stopped', ended_at = watchbell.clock() where id = {}", a.id());
    scene.psql(stop).await;
    let now = scene.now();
    prune(&mut scene.sql, RETENTION, Some(now)).await.unwrap();
    let waiting: Vec<String> = scene.values("select target from watchbell.runs_live").await;
    assert_eq!(waiting.len(), 1, "that of the other: {waiting:?}");
}

/// The sentence with which a call is refused.
async fn refusal(scene: &mut Scene, call: &str) -> String {
    let call = format!("select watchbell.{call}");
    let error = sqlx::raw_sql(sqlx::AssertSqlSafe(call)).execute(&mut scene.sql).await.unwrap_err();
    error.as_database_error().unwrap().message().to_owned()
}

#[tokio::test]
async fn run_now_runs_on_all_and_a_backfill_is_refused() {
    let mut scene = Scene::new().await;
    everywhere(&mut scene, "", "").await;
    assert_eq!(
        refusal(&mut scene, "run_now('e')").await,
        "schedule \"e\" cannot run now: no live worker matches its target \"all\""
    );
    assert_eq!(
        refusal(&mut scene, "backfill('e', watchbell.clock() - interval '1 h', watchbell.clock())").await,
        "schedule \"e\" cannot be backfilled: its target is all, and the workers of the past are gone"
    );
    assert_eq!(
        refusal(&mut scene, "enqueue('mail', target => 'all')").await,
        "run for handler \"mail\": target \"all\" is not a label selector"
    );
    assert_eq!(
        refusal(&mut scene, "schedule('x', 'mail', '@daily', target => 'all:zone')").await,
        "schedule \"x\": target \"all:zone\" is not all or all:label=value"
    );
    let (mut a, mut b) = two(&mut scene).await;
    let first: i64 = scene.value("select watchbell.run_now('e')").await;
    assert_eq!(scene.claim_one(&mut a).await.id, first);
    scene.claim_one(&mut b).await;
}

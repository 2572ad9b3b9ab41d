//! Kept alive: a fixed delay whose run is started again on any end, in so many copies.

use chrono::TimeDelta;
use watchbell::lifecycle::claim::Claimed;
use watchbell::lifecycle::prune::prune;
use watchbell::lifecycle::requests::requests;
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::scene::{Worker, failure};

const RETENTION: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

/// A schedule that keeps so many copies alive, all of them due.
async fn kept(scene: &mut Scene, copies: i32) -> (i64, Worker) {
    let worker = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("k", "fixed_delay, keep_alive, copies", &format!("'1 s', true, {copies}")).await;
    scene.fire().await;
    scene.advance(TimeDelta::seconds(1)).await;
    assert_eq!(scene.fire().await.runs, u64::try_from(copies).unwrap());
    (id, worker)
}

/// Fires after an end; says how many seconds the schedule waits, and waits them.
async fn restart(scene: &mut Scene, id: i64) -> i64 {
    assert_eq!(scene.fire().await.runs, 0, "the pause has not passed");
    let next = scene.schedule_row(id).await.next_fire_at.expect("a restart is planned");
    let pause = next - scene.now();
    scene.advance(pause).await;
    assert_eq!(scene.fire().await.runs, 1);
    pause.num_seconds()
}

fn cancelled() -> Event {
    Event::Cancelled { reason: "asked".to_owned() }
}

#[tokio::test]
async fn a_kept_run_is_restarted_on_any_end_after_a_growing_pause() {
    let mut scene = Scene::new().await;
    let (id, mut a) = kept(&mut scene, 1).await;
    let fatal = Event::Fatal { message: "no".to_owned() };
    let mut pauses = vec![];
    for end in [Event::Succeeded, failure(), cancelled(), fatal, Event::WorkerLost] {
        let run = scene.claim_one(&mut a).await;
        assert_eq!((run.timeout, run.max_attempts, run.trigger.as_str()), (None, 1, "keep_alive"));
        scene.end(&run, end).await;
        pauses.push(restart(&mut scene, id).await);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16]);
    let told: Vec<String> = scene.values("select distinct disposition from watchbell.fires").await;
    assert_eq!(told, ["run"]);
    let fires: i64 = scene.value("select count(*) from watchbell.fires where run_id is not null").await;
    assert_eq!(fires, 6, "each start is a fire time of its own");
}

#[tokio::test]
async fn a_crash_loop_shows_in_the_row_until_a_copy_has_lived_for_a_minute() {
    let mut scene = Scene::new().await;
    let (id, mut a) = kept(&mut scene, 1).await;
    let looping = format!("select crash_loop_since is not null from watchbell.schedules where id = {id}");
    for nth in 1..=5 {
        let run = scene.claim_one(&mut a).await;
        scene.end(&run, failure()).await;
        restart(&mut scene, id).await;
        assert_eq!(scene.value::<bool>(&looping).await, nth == 5, "after {nth} ends");
    }
    let run = scene.claim_one(&mut a).await;
    scene.advance(TimeDelta::seconds(59)).await;
    let now = scene.now();
    prune(&mut scene.sql, RETENTION, Some(now)).await.unwrap();
    assert!(scene.value::<bool>(&looping).await);
    scene.advance(TimeDelta::seconds(1)).await;
    let now = scene.now();
    prune(&mut scene.sql, RETENTION, Some(now)).await.unwrap();
    assert!(!scene.value::<bool>(&looping).await);
    assert_eq!(scene.value::<i32>("select restarts from watchbell.copies").await, 0);
    scene.end(&run, failure()).await;
    assert_eq!(restart(&mut scene, id).await, 1, "the shortest pause again");
}

#[tokio::test]
async fn each_copy_is_restarted_by_itself() {
    let mut scene = Scene::new().await;
    let (id, mut a) = kept(&mut scene, 3).await;
    let runs = scene.claim(&mut a, 10).await;
    assert_eq!(runs.len(), 3);
    scene.end(&runs[1], failure()).await;
    assert_eq!(restart(&mut scene, id).await, 1);
    let second = scene.claim_one(&mut a).await;
    scene.end(&second, failure()).await;
    scene.end(&runs[0], failure()).await;
    assert_eq!(restart(&mut scene, id).await, 1, "that of the first copy");
    assert_eq!(restart(&mut scene, id).await, 1, "and the second a second later: its pause has doubled");
    let restarts: Vec<i32> = scene.values("select restarts from watchbell.copies order by restarts").await;
    assert_eq!(restarts, [0, 1, 2]);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs_live").await, 3);
}

#[tokio::test]
async fn fewer_copies_ask_the_surplus_to_stop_and_more_start_at_once() {
    let mut scene = Scene::new().await;
    let (_, mut a) = kept(&mut scene, 3).await;
    let runs = scene.claim(&mut a, 10).await;
    scene.psql("update watchbell.schedules set copies = 1").await;
    scene.fire().await;
    let asked = requests(&mut scene.sql, a.id()).await.unwrap();
    let ids: Vec<i64> = asked.cancel.iter().map(|ask| ask.0).collect();
    assert_eq!(ids, [runs[1].id, runs[2].id]);
    assert_eq!(asked.cancel[0].1, "cancelled by watchbell: its schedule keeps fewer copies alive");
    scene.end(&runs[1], cancelled()).await;
    scene.end(&runs[2], cancelled()).await;
    scene.advance(TimeDelta::minutes(10)).await;
    assert_eq!(scene.fire().await.runs, 0);
    assert_eq!(scene.values::<i32>("select copy from watchbell.copies").await, [1]);
    scene.psql("update watchbell.schedules set copies = 2").await;
    assert_eq!(scene.fire().await.runs, 1);
}

#[tokio::test]
async fn a_run_that_was_open_before_is_taken_over() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("k", "fixed_delay, first_fire", "'1 s', 'at_once'").await;
    scene.fire().await;
    let run = scene.claim_one(&mut a).await;
    scene.psql("update watchbell.schedules set keep_alive = true").await;
    assert_eq!(scene.fire().await.runs, 0, "there is one already");
    scene.end(&run, Event::Succeeded).await;
    assert_eq!(restart(&mut scene, id).await, 1);
    let run = scene.claim_one(&mut a).await;
    scene.psql("update watchbell.schedules set keep_alive = false").await;
    scene.fire().await;
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.copies").await, 0);
    scene.end(&run, Event::Succeeded).await;
    let next = scene.schedule_row(id).await.next_fire_at.unwrap();
    assert_eq!(next, scene.now() + TimeDelta::seconds(1), "a fixed delay as any other");
}

#[tokio::test]
async fn a_deleted_schedule_asks_its_kept_runs_to_stop() {
    let mut scene = Scene::new().await;
    let (_, mut a) = kept(&mut scene, 2).await;
    let running = scene.claim(&mut a, 1).await.remove(0);
    scene.psql("select watchbell.unschedule('k')").await;
    let asked = requests(&mut scene.sql, a.id()).await.unwrap();
    let login: String = scene.value("select session_user::text").await;
    let why = format!("cancelled by {login}: schedule \"k\" was deleted");
    assert_eq!(asked.cancel, [(running.id, why)]);
    let waiting: String = scene.value(format!("select status from watchbell.runs where id <> {}", running.id)).await;
    assert_eq!(waiting, "cancelled");
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.copies").await, 0);
}

#[tokio::test]
async fn a_pause_lets_kept_runs_go_on_and_starts_none_again() {
    let mut scene = Scene::new().await;
    let (id, mut a) = kept(&mut scene, 1).await;
    let run = scene.claim_one(&mut a).await;
    scene.psql("select watchbell.pause('k')").await;
    scene.psql("select watchbell.cancel_schedule('k', 'enough')").await;
    scene.end(&run, cancelled()).await;
    scene.advance(TimeDelta::minutes(10)).await;
    assert_eq!(scene.fire().await.schedules, 0);
    scene.psql("select watchbell.resume('k')").await;
    assert_eq!(scene.fire().await.runs, 1);
    let fired = scene.schedule_row(id).await.last_fire_at.unwrap();
    assert_eq!(fired, scene.now(), "counted from the resumption");
}

#[tokio::test]
async fn a_restart_that_is_cancelled_before_it_starts_is_followed_by_another() {
    let mut scene = Scene::new().await;
    let (id, _) = kept(&mut scene, 1).await;
    scene.psql("select watchbell.cancel(id) from watchbell.runs_live").await;
    assert_eq!(restart(&mut scene, id).await, 1);
    assert_eq!(scene.value::<i32>("select restarts from watchbell.copies").await, 0, "it never ran");
    scene.psql(format!("{}; delete from watchbell.runs_live", crate::support::guard::OFF)).await;
    let now = scene.now();
    prune(&mut scene.sql, RETENTION, Some(now)).await.unwrap();
    assert_eq!(restart(&mut scene, id).await, 1, "also of one that somebody deleted");
}

#[tokio::test]
async fn a_bad_row_is_refused_in_one_sentence() {
    let mut scene = Scene::new().await;
    let refused = [
        ("cron, keep_alive", "'@daily', true", "keep_alive goes with fixed_delay only"),
        ("fixed_delay, copies", "'1 s', 2", "copies 2 goes with keep_alive only"),
        ("fixed_delay, keep_alive, copies", "'1 s', true, 0", "copies 0 is out of range 1-100"),
        ("fixed_delay, keep_alive, target", "'1 s', true, 'all'", "keep_alive does not go with target \"all\""),
    ];
    for (columns, values, sentence) in refused {
        let insert =
            format!("insert into watchbell.schedules (name, handler, {columns}) values ('x', 'mail', {values})");
        let answer = sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut scene.sql).await.unwrap_err();
        let answer = answer.as_database_error().unwrap().message().to_owned();
        assert_eq!(answer, format!("schedule \"x\": {sentence}"));
    }
}

#[tokio::test]
async fn the_library_declares_it_and_the_same_again_is_no_edit() {
    use watchbell::client::{Change, NewSchedule};
    let mut scene = Scene::new().await;
    let consumer = watchbell::fixed_delay(watchbell::seconds(1)).keep_alive().copies(3);
    let declared = NewSchedule::new("consumer", consumer, "mail");
    assert_eq!(declared.upsert(&mut scene.sql).await.unwrap(), Change::Inserted);
    assert_eq!(declared.upsert(&mut scene.sql).await.unwrap(), Change::Unchanged);
    let stored: String =
        scene.value("select concat_ws('|', keep_alive, copies, timeout, max_attempts) from watchbell.schedules").await;
    assert_eq!(stored, "t|3|1");
}

/// As many copies of one schedule as there are runs, whoever has them.
#[tokio::test]
async fn ends_of_several_copies_in_one_batch_restart_each() {
    let mut scene = Scene::new().await;
    let (_, mut a) = kept(&mut scene, 5).await;
    let runs = scene.claim(&mut a, 10).await;
    let ends: Vec<(&Claimed, Event)> = runs.iter().map(|run| (run, failure())).collect();
    assert_eq!(scene.finish(&ends).await.accepted.len(), 5);
    scene.fire().await;
    scene.advance(TimeDelta::seconds(1)).await;
    assert_eq!(scene.fire().await.runs, 5);
    assert_eq!(scene.value::<i64>("select count(distinct run_id) from watchbell.copies").await, 5);
}

#[tokio::test]
async fn a_retry_of_all_that_failed_leaves_what_is_kept_alive_alone() {
    let mut scene = Scene::new().await;
    let (_, mut a) = kept(&mut scene, 1).await;
    let run = scene.claim_one(&mut a).await;
    scene.end(&run, failure()).await;
    assert_eq!(scene.status(run.id).await, "failed");
    assert_eq!(scene.value::<i32>("select watchbell.retry_failed()").await, 0);
}

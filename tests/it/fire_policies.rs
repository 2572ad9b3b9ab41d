//! What becomes of a fire time that comes late, or while earlier runs are open: each policy once, through the
//! real stage. The arithmetic behind them is tested in `planning`.

use chrono::TimeDelta;
use watchbell::lifecycle::requests::requests;
use watchbell::run::transition::Event;

use crate::fire::fires;
use crate::support::Scene;
use crate::support::scene::Worker;

/// What became of the fire times, without the times.
async fn dispositions(scene: &mut Scene, id: i64) -> Vec<String> {
    let zero = scene.now();
    fires(scene, id, zero).await.into_iter().map(|(_, disposition)| disposition).collect()
}

/// A schedule of one slot a minute, with three slots gone by while nobody acted.
async fn three_missed(scene: &mut Scene, columns: &str, values: &str) -> i64 {
    let id = scene.schedule("m", &format!("fixed_rate{columns}"), &format!("'1 min'{values}")).await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(3) + TimeDelta::seconds(30)).await;
    scene.fire().await;
    id
}

#[tokio::test]
async fn misfire_fire_once_runs_the_latest_and_records_the_gap() {
    let mut scene = Scene::new().await;
    let zero = scene.now();
    let id = three_missed(&mut scene, "", "").await;
    assert_eq!(fires(&mut scene, id, zero).await, [(1, "coalesced".to_owned()), (3, "run".to_owned())]);
    assert_eq!(scene.value::<i64>("select sum(missed)::bigint from watchbell.fires").await, 2);
}

#[tokio::test]
async fn misfire_skip_runs_the_latest_only_within_its_grace() {
    for (grace, last) in [("31 s", "run"), ("29 s", "skipped_misfire")] {
        let mut scene = Scene::new().await;
        let id = three_missed(&mut scene, ", misfire, misfire_grace", &format!(", 'skip', '{grace}'")).await;
        let seen = dispositions(&mut scene, id).await;
        assert_eq!(seen.last().map(String::as_str), Some(last), "{grace}");
    }
}

#[tokio::test]
async fn misfire_catch_up_runs_each_slot_oldest_first() {
    let mut scene = Scene::new().await;
    let zero = scene.now();
    let id = three_missed(&mut scene, ", misfire", ", 'catch_up'").await;
    let seen = fires(&mut scene, id, zero).await;
    assert_eq!(seen, [(1, "caught_up".to_owned()), (2, "caught_up".to_owned()), (3, "run".to_owned())]);
    let triggers: Vec<String> = scene.values("select trigger from watchbell.runs order by fire_at").await;
    assert_eq!(triggers, ["catch_up", "catch_up", "schedule"]);
}

/// Fires a schedule of one slot a minute three times while its first run goes on.
async fn three_overlapping(scene: &mut Scene, overlap: &str) -> (i64, Worker) {
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("o", "fixed_rate, overlap", &format!("'1 min', '{overlap}'")).await;
    scene.fire().await;
    for minute in 0..3 {
        scene.advance(TimeDelta::minutes(1)).await;
        scene.fire().await;
        if minute == 0 {
            scene.claim_one(&mut a).await;
        }
    }
    (id, a)
}

#[tokio::test]
async fn overlap_allow_starts_beside_the_open_run() {
    let mut scene = Scene::new().await;
    let (id, mut a) = three_overlapping(&mut scene, "allow").await;
    assert_eq!(dispositions(&mut scene, id).await, ["run"; 3]);
    assert_eq!(scene.claim(&mut a, 10).await.len(), 2);
}

#[tokio::test]
async fn overlap_skip_drops_what_comes_due_meanwhile() {
    let mut scene = Scene::new().await;
    let (id, _) = three_overlapping(&mut scene, "skip").await;
    assert_eq!(dispositions(&mut scene, id).await, ["run", "skipped_overlap"]);
    let missed: i64 = scene.value("select missed from watchbell.fires where run_id is null").await;
    assert_eq!(missed, 2, "one row for both");
}

#[tokio::test]
async fn overlap_queue_one_keeps_one_waiting() {
    let mut scene = Scene::new().await;
    let (id, mut a) = three_overlapping(&mut scene, "queue_one").await;
    assert_eq!(dispositions(&mut scene, id).await, ["run", "queued", "skipped_overlap"]);
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0, "it waits for the first");
}

#[tokio::test]
async fn overlap_queue_all_is_strictly_serial() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("o", "fixed_rate, overlap", "'1 min', 'queue_all'").await;
    scene.fire().await;
    for _ in 0..5 {
        scene.advance(TimeDelta::minutes(1)).await;
        scene.fire().await;
    }
    assert_eq!(dispositions(&mut scene, id).await, ["run", "queued", "queued", "queued", "queued"]);
    let mut order = vec![];
    for _ in 0..5 {
        let run = scene.claim_one(&mut a).await;
        order.push(run.fire_at);
        scene.end(&run, Event::Succeeded).await;
    }
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn overlap_cancel_running_asks_the_open_run_to_stop_and_starts_after_it() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    scene.schedule("o", "fixed_rate, overlap", "'1 min', 'cancel_running'").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(1)).await;
    scene.fire().await;
    let first = scene.claim_one(&mut a).await;
    scene.advance(TimeDelta::minutes(1)).await;
    scene.fire().await;
    let asked = requests(&mut scene.sql, a.id()).await.unwrap();
    assert_eq!(asked.cancel.iter().map(|ask| ask.0).collect::<Vec<_>>(), [first.id]);
    assert_eq!(scene.claim(&mut a, 10).await.len(), 0);
    scene.end(&first, Event::Cancelled { reason: "newer".to_owned() }).await;
    let second = scene.claim_one(&mut a).await;
    assert_eq!(second.fire_at, Some(scene.now()));
}

#[tokio::test]
async fn a_start_deadline_that_passed_expires_the_fire_time() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("prompt", "fixed_rate, start_deadline", "'1 h', '1 min'").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(65)).await;
    assert_eq!(scene.fire().await.runs, 0);
    assert_eq!(dispositions(&mut scene, id).await, ["expired"]);
}

//! What the policies do to one another: streaks, pauses, edits, deletes, skips and limits, through the real stage.

use chrono::TimeDelta;
use watchbell::run::transition::Event;

use crate::fire::fires;
use crate::support::Scene;
use crate::support::scene::failure;

/// What became of the fire times: minute of the first, disposition, minute of the last, how many.
async fn rows(scene: &mut Scene, id: i64) -> Vec<String> {
    let query = format!(
        "select concat_ws(' ', extract(epoch from fire_at - date_trunc('day', fire_at))::bigint / 60 - 720, \
            disposition, extract(epoch from until - date_trunc('day', until))::bigint / 60 - 720, missed) \
         from watchbell.fires where schedule_id = {id} order by fire_at"
    );
    scene.values(query).await
}

async fn minutes(scene: &mut Scene, n: i64) {
    for _ in 0..n {
        scene.advance(TimeDelta::minutes(1)).await;
        scene.fire().await;
    }
}

#[tokio::test]
async fn a_streak_of_skips_is_one_row_however_many_passes_it_took() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("s", "fixed_rate, overlap", "'1 min', 'skip'").await;
    scene.fire().await;
    minutes(&mut scene, 5).await;
    assert_eq!(rows(&mut scene, id).await, ["1 run 0", "2 skipped_overlap 5 4"]);
    let run = scene.claim_one(&mut a).await;
    scene.end(&run, Event::Succeeded).await;
    minutes(&mut scene, 3).await;
    let all = ["1 run 0", "2 skipped_overlap 5 4", "6 run 0", "7 skipped_overlap 8 2"];
    assert_eq!(rows(&mut scene, id).await, all);
    let counted: i64 =
        scene.value("select sum(missed + (run_id is not null)::integer)::bigint from watchbell.fires").await;
    assert_eq!(counted, 8, "each fire time once");
}

#[tokio::test]
async fn a_streak_ends_where_something_else_became_of_a_fire_time() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("s", "fixed_rate, overlap", "'1 min', 'skip'").await;
    scene.fire().await;
    minutes(&mut scene, 2).await;
    scene.psql("select watchbell.skip_next('s')").await;
    minutes(&mut scene, 3).await;
    let all = ["1 run 0", "2 skipped_overlap 1", "3 skipped_by_request 1", "4 skipped_overlap 5 2"];
    assert_eq!(rows(&mut scene, id).await, all);
}

#[tokio::test]
async fn a_streak_whose_first_was_backfilled_goes_on_in_a_row_of_its_own() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("s", "fixed_rate, overlap", "'1 min', 'skip'").await;
    scene.fire().await;
    minutes(&mut scene, 2).await;
    scene.psql("update watchbell.fires set run_id = 1 where disposition = 'skipped_overlap'").await;
    minutes(&mut scene, 2).await;
    assert_eq!(rows(&mut scene, id).await, ["1 run 0", "2 skipped_overlap 1", "3 skipped_overlap 4 2"]);
}

#[tokio::test]
async fn skip_next_skips_the_next_also_when_earlier_ones_were_missed() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("s", "fixed_rate, misfire", "'1 min', 'catch_up'").await;
    scene.fire().await;
    scene.psql("select watchbell.skip_next('s')").await; // minute 1
    scene.advance(TimeDelta::minutes(3)).await;
    scene.fire().await;
    assert_eq!(rows(&mut scene, id).await, ["1 skipped_by_request 1", "2 caught_up 0", "3 run 0"]);
    let id = scene.schedule("c", "cron, misfire", "'* * * * *', 'fire_once'").await;
    scene.fire().await;
    scene.psql("select watchbell.skip_next('c')").await; // minute 4, planned anew from there
    scene.advance(TimeDelta::minutes(3)).await;
    scene.fire().await;
    assert_eq!(rows(&mut scene, id).await, ["4 skipped_by_request 1", "5 coalesced 1", "6 run 0"]);
}

#[tokio::test]
async fn slots_of_a_pause_are_dropped_whatever_misfire_says() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("p", "fixed_rate, misfire", "'1 min', 'catch_up'").await;
    scene.fire().await;
    minutes(&mut scene, 1).await;
    scene.psql("select watchbell.pause('p', 'why', watchbell.clock() + interval '10 min')").await;
    minutes(&mut scene, 10).await;
    let now = scene.now();
    assert_eq!(watchbell::lifecycle::prune::resume(&mut scene.sql, Some(now)).await.unwrap(), 1);
    scene.fire().await;
    minutes(&mut scene, 1).await;
    // the instant of the resumption is a slot of its own: minute 11
    assert_eq!(rows(&mut scene, id).await, ["1 run 0", "11 run 0", "12 run 0"]);
}

#[tokio::test]
async fn max_fires_ends_a_catch_up_in_its_midst() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("m", "fixed_rate, misfire, max_fires", "'1 min', 'catch_up', 2").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(4)).await;
    assert_eq!(scene.fire().await.runs, 2);
    assert_eq!(rows(&mut scene, id).await, ["1 caught_up 0", "2 caught_up 0"]);
    assert_eq!(scene.schedule_row(id).await.status, "done");
}

#[tokio::test]
async fn a_deleted_schedule_leaves_its_open_runs_which_end_as_ever() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    for (name, columns, values) in [
        ("rate", "fixed_rate, overlap", "'1 min', 'queue_all'"),
        ("delay", "fixed_delay", "'1 min'"),
        ("cron", "cron", "'* * * * *'"),
    ] {
        let id = scene.schedule(name, columns, values).await;
        scene.fire().await;
        minutes(&mut scene, 1).await;
        let run = scene.claim_one(&mut a).await;
        scene.psql(format!("select watchbell.unschedule('{name}')")).await;
        scene.end(&run, failure()).await;
        scene.advance(TimeDelta::minutes(1)).await;
        let again = scene.claim_one(&mut a).await;
        assert_eq!((again.id, again.attempt), (run.id, 2), "{name}: its retry too");
        scene.end(&again, Event::Succeeded).await;
        assert_eq!(scene.status(run.id).await, "normal", "{name}");
        minutes(&mut scene, 2).await;
        assert_eq!(rows(&mut scene, id).await.len(), 1, "{name}: nothing more fires");
    }
    let left: Vec<i32> = scene.values("select running from watchbell.limits where running > 0").await;
    assert!(left.is_empty());
}

#[tokio::test]
async fn an_edit_while_a_run_is_open_leaves_the_run_its_copy() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("e", "fixed_rate, payload, overlap", "'1 min', '{\"n\": 1}', 'skip'").await;
    scene.fire().await;
    minutes(&mut scene, 1).await;
    let open = scene.claim_one(&mut a).await;
    scene.psql("update watchbell.schedules set payload = '{\"n\": 2}', fixed_rate = '2 min'").await;
    scene.fire().await;
    assert_eq!(scene.run(open.id).await.payload.get(), "{\"n\": 1}");
    minutes(&mut scene, 2).await;
    let zero = scene.now() - TimeDelta::minutes(3);
    let told = fires(&mut scene, id, zero).await;
    assert_eq!(told, [(1, "run".to_owned()), (3, "skipped_overlap".to_owned())], "the open run still counts");
    scene.end(&open, Event::Succeeded).await;
    minutes(&mut scene, 2).await;
    let next = scene.claim_one(&mut a).await;
    assert_eq!(next.payload, "{\"n\": 2}");
}

#[tokio::test]
async fn failures_in_a_row_pause_a_schedule_with_a_note_and_its_runs_go_on() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let columns = "fixed_rate, pause_after_failures, max_attempts";
    let id = scene.schedule("f", columns, "'1 min', 2, 1").await;
    scene.fire().await;
    minutes(&mut scene, 3).await;
    let runs = scene.claim(&mut a, 10).await;
    assert_eq!(runs.len(), 3);
    scene.end(&runs[0], failure()).await;
    assert_eq!(scene.schedule_row(id).await.paused_at, None);
    scene.end(&runs[1], failure()).await;
    assert_eq!(scene.schedule_row(id).await.paused_at, Some(scene.now()));
    let note: String = scene.value("select pause_note from watchbell.schedules").await;
    assert_eq!(note, "paused after 2 failures in a row");
    scene.end(&runs[2], Event::Succeeded).await;
    assert_eq!(scene.schedule_row(id).await.consecutive_failures, 0);
}

#[tokio::test]
async fn run_now_is_beside_the_fire_times_and_no_overlap_counts_it() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("n", "fixed_rate, overlap", "'1 min', 'skip'").await;
    scene.fire().await;
    let next = scene.schedule_row(id).await.next_fire_at;
    scene.psql("select watchbell.run_now('n')").await;
    assert_eq!(scene.schedule_row(id).await.next_fire_at, next);
    scene.claim_one(&mut a).await; // goes on
    minutes(&mut scene, 1).await;
    assert_eq!(rows(&mut scene, id).await, ["1 run 0"], "only runs of fire times overlap");
}

#[tokio::test]
async fn allow_has_a_ceiling_above_which_it_skips_and_says_so() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("a", "fixed_rate", "'1 min'").await;
    scene.fire().await;
    minutes(&mut scene, 103).await;
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs_live").await, 100);
    let last = rows(&mut scene, id).await.pop().unwrap();
    assert_eq!(last, "101 skipped_overlap 103 3");
}

#[tokio::test]
async fn an_ended_schedule_accounts_for_the_last_slot_before_its_end() {
    let mut scene = Scene::new().await;
    let ends = "watchbell.clock() + interval '3 min'";
    let id = scene.schedule("w", "fixed_rate, misfire, ends_at", &format!("'1 min', 'skip', {ends}")).await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(10)).await;
    assert_eq!(scene.fire().await.runs, 0);
    assert_eq!(rows(&mut scene, id).await, ["1 skipped_misfire 2 2"], "the third is the end itself");
    assert_eq!(scene.schedule_row(id).await.status, "done");
}

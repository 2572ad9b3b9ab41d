//! Schedules become runs: each kind, each policy, each fire time once.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Connection;
use tokio::sync::Barrier;
use watchbell::lifecycle::fire::fire;
use watchbell::run::transition::Event;

use crate::support::Scene;
use crate::support::scene::failure;

/// The fire times recorded for a schedule, oldest first, in minutes after `zero`, with what became of them.
pub async fn fires(scene: &mut Scene, id: i64, zero: DateTime<Utc>) -> Vec<(i64, String)> {
    let query = "select fire_at, disposition from watchbell.fires where schedule_id = $1 order by fire_at";
    let rows: Vec<(DateTime<Utc>, String)> = sqlx::query_as(query).bind(id).fetch_all(&mut scene.sql).await.unwrap();
    rows.into_iter().map(|(at, disposition)| ((at - zero).num_minutes(), disposition)).collect()
}

#[tokio::test]
async fn a_schedule_inserted_by_plain_sql_becomes_normal_with_its_next_fire_time() {
    let mut scene = Scene::new().await;
    let now = scene.now();
    let minutes = |minutes| Some(now + TimeDelta::minutes(minutes));
    let table = [
        ("cron", "'30 12 * * *'", minutes(30)),
        ("fixed_delay", "'5 min'", minutes(5)),
        ("fixed_rate", "'7 min'", minutes(7)),
        ("run_at", "watchbell.clock() + interval '9 min'", minutes(9)),
    ];
    for (kind, value, next) in table {
        let id = scene.schedule(kind, kind, value).await;
        let row = scene.schedule_row(id).await;
        assert_eq!((row.status.as_str(), row.next_fire_at), ("pending", None), "{kind}");
        assert_eq!(scene.fire().await.runs, 0);
        let row = scene.schedule_row(id).await;
        assert_eq!((row.status.as_str(), row.next_fire_at), ("normal", next), "{kind}");
    }
}

#[tokio::test]
async fn each_kind_fires_on_time_and_goes_on_in_its_own_way() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let start = scene.now();
    let table = [
        // kind, spec, next fire time after the fire, and after the end of its run a minute later
        ("cron", "'*/10 * * * *'", Some(20), Some(20)),
        ("fixed_delay", "'10 min'", None, Some(21)),
        ("fixed_rate", "'10 min'", Some(20), Some(20)),
        ("run_at", "watchbell.clock() + interval '10 min'", None, None),
    ];
    let mut ids = vec![];
    for (kind, value, ..) in table {
        ids.push(scene.schedule(kind, kind, value).await);
    }
    scene.fire().await;
    scene.advance(TimeDelta::minutes(10)).await;
    assert_eq!(scene.fire().await.runs, 4);
    for (&id, (kind, _, next, _)) in ids.iter().zip(table) {
        assert_eq!(fires(&mut scene, id, start).await, [(10, "run".to_owned())], "{kind}");
        let row = scene.schedule_row(id).await;
        assert_eq!(row.next_fire_at, next.map(|next| start + TimeDelta::minutes(next)), "{kind}");
    }
    let runs = scene.claim(&mut a, 10).await;
    assert!(runs.iter().all(|run| run.fire_at == Some(scene.now()) && run.trigger == "schedule"));
    scene.advance(TimeDelta::minutes(1)).await;
    let ends: Vec<_> = runs.iter().map(|run| (run, Event::Succeeded)).collect();
    assert_eq!(scene.finish(&ends).await.accepted.len(), 4);
    for (&id, (kind, _, _, next)) in ids.iter().zip(table) {
        let row = scene.schedule_row(id).await;
        assert_eq!(row.next_fire_at, next.map(|next| start + TimeDelta::minutes(next)), "{kind}");
        assert_eq!(row.status, if kind == "run_at" { "done" } else { "normal" });
    }
}

#[tokio::test]
async fn a_row_that_can_never_fire_is_invalid_with_its_sentence_and_the_others_go_on() {
    let mut scene = Scene::new().await;
    let good = scene.schedule("good", "fixed_rate", "'1 min'").await;
    let never = scene.schedule("never", "cron", "'0 0 30 2 *'").await;
    let bad = scene.schedule("bad", "cron", "'0 0 * * *'").await;
    // what no check lets through today an older release may have left behind
    scene.psql("alter table watchbell.schedules disable trigger user").await;
    scene.psql(format!("update watchbell.schedules set cron = 'nonsense' where id = {bad}")).await;
    let fired = scene.fire().await;
    assert_eq!((fired.schedules, fired.invalid.len()), (3, 2));
    assert_eq!(scene.schedule_row(good).await.status, "normal");
    for id in [never, bad] {
        let row = scene.schedule_row(id).await;
        assert_eq!((row.status.as_str(), row.next_fire_at), ("invalid", None));
        assert!(row.error.is_some_and(|error| error.contains("cron expression")));
    }
    assert_eq!(scene.fire().await.schedules, 0, "neither heads the due ones for ever");
}

#[tokio::test]
async fn a_fixed_delay_counts_from_the_end_whatever_the_end() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let id = scene.schedule("sync", "fixed_delay, max_attempts", "'10 min', 1").await;
    scene.fire().await;
    for end in ["normal", "failed", "cancelled", "crashed", "cancelled while pending"] {
        scene.advance(TimeDelta::minutes(10)).await;
        assert_eq!(scene.fire().await.runs, 1, "before {end}");
        let mut worker = scene.worker("w", &["mail"]).await;
        scene.advance(TimeDelta::minutes(3)).await;
        assert_eq!(scene.fire().await.schedules, 0, "while it runs nothing is due");
        if end == "cancelled while pending" {
            let run: i64 = scene.value("select id from watchbell.runs_live").await;
            scene.psql(format!("select watchbell.cancel({run})")).await;
        } else {
            let run = scene.claim_one(&mut worker).await;
            match end {
                "normal" => scene.end(&run, Event::Succeeded).await,
                "failed" => scene.end(&run, failure()).await,
                "cancelled" => scene.end(&run, Event::Cancelled { reason: "asked".to_owned() }).await,
                _ => {
                    scene.silence(&worker);
                    scene.advance(TimeDelta::seconds(16)).await;
                    assert_eq!(scene.rescue(&judge).await.accepted.len(), 1);
                }
            }
        }
        let row = scene.schedule_row(id).await;
        assert_eq!(row.last_finished_at, Some(scene.now()), "{end}");
        assert_eq!(row.next_fire_at, Some(scene.now() + TimeDelta::minutes(10)), "{end}");
    }
}

#[tokio::test]
async fn a_fixed_delay_edited_while_its_run_is_open_counts_from_the_end_once() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("sync", "fixed_delay", "'10 min'").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(10)).await;
    scene.fire().await;
    let run = scene.claim_one(&mut a).await;
    scene.psql(format!("update watchbell.schedules set fixed_delay = '20 min' where id = {id}")).await;
    scene.fire().await;
    assert_eq!(scene.schedule_row(id).await.next_fire_at, None, "a run is open: its end sets the next time");
    scene.advance(TimeDelta::minutes(1)).await;
    scene.end(&run, Event::Succeeded).await;
    assert_eq!(scene.schedule_row(id).await.next_fire_at, Some(scene.now() + TimeDelta::minutes(20)));
}

#[tokio::test]
async fn a_run_that_ends_between_an_edit_and_its_planning_leaves_the_new_delay() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let id = scene.schedule("sync", "fixed_delay", "'10 min'").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(10)).await;
    scene.fire().await;
    let run = scene.claim_one(&mut a).await;
    scene.psql(format!("update watchbell.schedules set fixed_delay = '20 min' where id = {id}")).await;
    scene.end(&run, Event::Succeeded).await;
    scene.fire().await;
    assert_eq!(scene.schedule_row(id).await.next_fire_at, Some(scene.now() + TimeDelta::minutes(20)));
}

#[tokio::test]
async fn a_fixed_rate_does_not_drift_over_a_thousand_late_passes() {
    let mut scene = Scene::new().await;
    let columns = "fixed_rate, overlap, misfire, misfire_grace";
    let id = scene.schedule("beat", columns, "'10 s', 'skip', 'skip', '1 h'").await;
    scene.fire().await;
    let start = scene.now();
    let mut random = fastrand::Rng::with_seed(7);
    for slot in 1..=1000 {
        let late = TimeDelta::milliseconds(random.i64(0..10_000));
        let at = start + TimeDelta::seconds(10 * slot) + late;
        let now = scene.now();
        scene.advance(at - now).await;
        assert_eq!(scene.fire().await.schedules, 1, "slot {slot}");
    }
    let query = "select extract(epoch from fire_at)::bigint from watchbell.fires where schedule_id = $1 order by 1";
    let seen: Vec<i64> = sqlx::query_scalar(query).bind(id).fetch_all(&mut scene.sql).await.unwrap();
    let slots: Vec<i64> = (1..=1000).map(|slot| start.timestamp() + 10 * slot).collect();
    assert_eq!(seen.first(), slots.first());
    assert_eq!(scene.schedule_row(id).await.next_fire_at, Some(start + TimeDelta::seconds(10 * 1001)));
    let missed: i64 = scene.value("select sum(greatest(missed, 1))::bigint from watchbell.fires").await;
    assert_eq!(missed, 1000, "each slot is accounted for");
    assert!(seen.iter().all(|at| slots.contains(at)), "and none beside them");
}

#[tokio::test]
async fn a_fire_time_acts_once_although_many_workers_fire_at_once() {
    let mut scene = Scene::new().await;
    scene.psql("set client_min_messages = error").await;
    let columns = "(name, handler, fixed_rate, first_fire)";
    scene
        .psql(format!(
            "insert into watchbell.schedules {columns} \
             select 's' || i, 'mail', '1 min', 'at_once' from generate_series(1, 50) i"
        ))
        .await;
    for _ in 0..3 {
        let barrier = Arc::new(Barrier::new(4));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (barrier, mut connection, now) = (Arc::clone(&barrier), scene.connect().await, scene.now());
            workers.spawn(async move {
                barrier.wait().await;
                fire(&mut connection, 200, Some(now)).await.unwrap().runs
            });
        }
        assert_eq!(workers.join_all().await.iter().sum::<u64>(), 50);
        scene.advance(TimeDelta::minutes(1)).await;
    }
    let doubled = "select count(*) - count(distinct (schedule_id, fire_at)) from watchbell.runs_live";
    assert_eq!(scene.value::<i64>(doubled).await, 0);
}

#[tokio::test]
async fn a_connection_lost_between_the_statements_of_a_fire_leaves_nothing() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("brief", "run_at", "watchbell.clock()").await;
    // the fire waits for this lock between inserting its rows and moving the schedule on
    scene
        .psql(
            "create function wait_for_it() returns trigger language plpgsql as $$
             begin perform pg_advisory_xact_lock(42); return new; end $$;
             create trigger wait_for_it before update on watchbell.schedules for each row execute function wait_for_it()",
        )
        .await;
    let mut held = scene.connect().await;
    sqlx::query("select pg_advisory_lock(42)").execute(&mut held).await.unwrap();
    let mut doomed = scene.connect().await;
    let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut doomed).await.unwrap();
    let now = scene.now();
    let firing = tokio::spawn(async move { fire(&mut doomed, 200, Some(now)).await });
    let waits = format!("select exists (select from pg_locks where pid = {backend} and not granted)");
    while !scene.value::<bool>(waits.clone()).await {
        tokio::task::yield_now().await;
    }
    scene.psql(format!("select pg_terminate_backend({backend})")).await;
    assert!(firing.await.unwrap().is_err());
    held.close().await.unwrap();
    let left = "select (select count(*) from watchbell.fires) + (select count(*) from watchbell.runs)";
    assert_eq!(scene.value::<i64>(left).await, 0);
    assert_eq!(scene.fire().await.runs, 1);
    assert_eq!(fires(&mut scene, id, now).await, [(0, "run".to_owned())]);
}

#[tokio::test]
async fn a_run_has_a_copy_of_its_schedules_settings() {
    let mut scene = Scene::new().await;
    let columns = "run_at, payload, queue, priority, max_attempts, retry, timeout, target, tags, concurrency_key";
    let retry = r#"{"strategy": "fixed", "base": "9s"}"#;
    let values =
        format!("watchbell.clock(), '{{\"n\": 1}}', 'slow', 2, 7, '{retry}', '5 min', 'disk=ssd', '{{nightly}}', 'k'");
    scene.schedule("copied", columns, &values).await;
    scene.fire().await;
    scene.psql("update watchbell.schedules set payload = '{\"n\": 2}', priority = 3").await;
    let copy = "select concat_ws('|', payload, queue, priority, max_attempts, retry->>'base', timeout, target, tags, \
                concurrency_key, schedule_name) from watchbell.runs_live";
    let copy: String = scene.value(copy).await;
    assert_eq!(copy, r#"{"n": 1}|slow|2|7|9s|00:05:00|disk=ssd|{nightly}|k|copied"#);
    let queue: bool = scene.value("select exists (select from watchbell.queues where name = 'slow')").await;
    assert!(queue, "its queue is known");
}

#[tokio::test]
async fn a_fire_time_years_past_finds_its_day() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("ancient", "run_at", "'2009-02-13 23:31:30+00'").await;
    assert_eq!(scene.fire().await.runs, 1);
    assert_eq!(scene.schedule_row(id).await.status, "done");
    let days: i64 =
        scene.value("select count(*) from pg_class where relname = 'fires_20090213' and relkind = 'r'").await;
    assert_eq!(days, 1);
}

#[tokio::test]
async fn a_paused_schedule_rests_and_goes_on_from_its_resumption() {
    let mut scene = Scene::new().await;
    let id = scene.schedule("p", "fixed_rate", "'10 min'").await;
    scene.fire().await;
    scene
        .psql("update watchbell.schedules set paused_at = watchbell.clock(), paused_until = watchbell.clock() + interval '25 min'")
        .await;
    scene.advance(TimeDelta::minutes(24)).await;
    assert_eq!(scene.fire().await.schedules, 0);
    scene.advance(TimeDelta::minutes(1)).await;
    let now = scene.now();
    assert_eq!(watchbell::lifecycle::prune::resume(&mut scene.sql, Some(now)).await.unwrap(), 1);
    assert_eq!(scene.fire().await.runs, 0, "what was missed while paused is dropped");
    assert_eq!(scene.schedule_row(id).await.next_fire_at, Some(now + TimeDelta::minutes(5)));
}

#[tokio::test]
async fn the_last_fire_of_a_fixed_delay_is_the_last_whatever_its_end() {
    let mut scene = Scene::new().await;
    let mut a = scene.worker("a", &["mail"]).await;
    let finished = scene.schedule("finished", "fixed_delay, max_fires", "'10 min', 1").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(10)).await;
    scene.fire().await;
    let run = scene.claim_one(&mut a).await;
    scene.end(&run, Event::Succeeded).await;
    let cancelled = scene.schedule("cancelled", "fixed_delay, max_fires", "'10 min', 1").await;
    scene.fire().await;
    scene.advance(TimeDelta::minutes(10)).await;
    assert_eq!(scene.fire().await.runs, 1);
    scene.psql("select watchbell.cancel(id) from watchbell.runs_live").await;
    scene.advance(TimeDelta::minutes(10)).await;
    assert_eq!(scene.fire().await.runs, 0);
    for id in [finished, cancelled] {
        assert_eq!(scene.schedule_row(id).await.status, "done");
    }
}

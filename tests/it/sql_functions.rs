//! What a person calls in psql does what it says, says what it did, and refuses in one sentence.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::postgres::PgDatabaseError;

use crate::rows::refusal;
use crate::support::Scene;
use crate::support::scene::failure;

/// A scene with the schedule `s`, every ten minutes from noon on, planned.
async fn with_schedule() -> (Scene, i64) {
    let mut scene = Scene::new().await;
    let id = scene.schedule("s", "cron", "'*/10 * * * *'").await;
    scene.fire().await;
    (scene, id)
}

#[tokio::test]
async fn schedule_inserts_then_updates_then_leaves_alone() {
    let mut scene = Scene::new().await;
    let call = "select watchbell.schedule('n', 'mail', cron => '0 2 * * *', queue => 'q')";
    let id: i64 = scene.value(call).await;
    assert_eq!(scene.value::<i64>(call).await, id);
    let version = "select version from watchbell.schedules";
    assert_eq!(scene.value::<i64>(version).await, 1, "the same again is no edit");
    scene.psql("select watchbell.pause('n')").await;
    assert_eq!(scene.value::<i64>("select watchbell.schedule('n', 'mail', fixed_rate => '5 min')").await, id);
    let row: Value = scene.value("select to_jsonb(s) from watchbell.schedules s").await;
    assert_eq!(
        (row["kind"].as_str(), row["queue"].as_str(), row["version"].as_i64(), row["paused_at"].is_null()),
        (Some("fixed_rate"), Some("default"), Some(2), false),
        "what is not said has its default, and a pause stays"
    );
}

#[tokio::test]
async fn schedule_takes_every_column_that_people_write() {
    let mut scene = Scene::new().await;
    let missing: Vec<String> = scene
        .values(
            "select a.attname::text from pg_attribute a
             where a.attrelid = 'watchbell.schedules'::regclass and a.attnum > 0 and not a.attisdropped
               and a.attname <> all (select unnest(proargnames) from pg_proc
                                     where oid = 'watchbell.schedule'::regproc)
               and watchbell.written_by_people(jsonb_build_object(a.attname, 1)) is not null",
        )
        .await;
    assert_eq!(missing, ["paused_at", "paused_by", "paused_until", "pause_note"]);
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_nearest() {
    let (mut scene, _) = with_schedule().await;
    scene.schedule("nightly-report", "cron", "'@daily'").await;
    for call in [
        "pause('nigthly-report')",
        "resume('nightlyreport')",
        "unschedule('nightly_report')",
        "run_now('Nightly-Report')",
        "skip_next('nightly-reprot')",
        "cancel_schedule('nightly-repor')",
        "backfill('nightly-reports', now() - interval '1 day', now())",
        "retry_failed(schedule => 'nightly-rport')",
    ] {
        let refused = refusal(&mut scene.sql, &format!("select watchbell.{call}")).await;
        assert_eq!(refused.code, "P0002", "{call}");
        assert!(refused.message.ends_with("\" does not exist"), "{}", refused.message);
        assert_eq!(refused.hint, "Did you mean \"nightly-report\"?", "{call}");
    }
    for (call, message) in [
        ("pause('zzzz')", "schedule \"zzzz\" does not exist"),
        ("pause(null)", "schedule NULL does not exist"),
        ("retry(77)", "run 77 does not exist"),
        ("resume_queue('none')", "queue \"none\" does not exist"),
        ("drain(7)", "worker 7 does not exist"),
        ("undrain(7)", "worker 7 does not exist"),
    ] {
        let refused = refusal(&mut scene.sql, &format!("select watchbell.{call}")).await;
        assert_eq!((refused.code.as_str(), refused.message.as_str()), ("P0002", message));
        assert!(!refused.hint.is_empty());
    }
}

#[tokio::test]
async fn a_paused_schedule_fires_nothing_and_resumes_from_now() {
    let (mut scene, id) = with_schedule().await;
    let since = scene.now();
    assert_eq!(scene.value::<i64>("select watchbell.pause('s', 'moving house')").await, id);
    scene.advance(TimeDelta::minutes(25)).await;
    scene.psql("select watchbell.pause('s', 'still moving')").await;
    assert_eq!(scene.fire().await.schedules, 0);
    let (paused_at, note): (DateTime<Utc>, String) =
        sqlx::query_as("select paused_at, pause_note from watchbell.schedules")
            .fetch_one(&mut scene.sql)
            .await
            .unwrap();
    assert_eq!((paused_at, note.as_str()), (since, "still moving"));
    for _ in 0..2 {
        assert_eq!(scene.value::<i64>("select watchbell.resume('s')").await, id);
    }
    assert_eq!(scene.fire().await.runs, 0, "what came due meanwhile is dropped");
    assert_eq!(scene.schedule_row(id).await.next_fire_at, Some(since + TimeDelta::minutes(30)));
    let late = refusal(&mut scene.sql, "select watchbell.pause('s', until => '2020-01-01Z')").await;
    assert!(late.message.ends_with("is not in the future"), "{late:?}");
}

#[tokio::test]
async fn a_pause_with_an_end_ends_by_itself() {
    let (mut scene, id) = with_schedule().await;
    scene.psql("select watchbell.pause('s', until => watchbell.clock() + interval '5 min')").await;
    let now = scene.now();
    assert_eq!(watchbell::lifecycle::prune::resume(&mut scene.sql, Some(now)).await.unwrap(), 0);
    scene.advance(TimeDelta::minutes(6)).await;
    let now = scene.now();
    assert_eq!(watchbell::lifecycle::prune::resume(&mut scene.sql, Some(now)).await.unwrap(), 1);
    assert_eq!(scene.schedule_row(id).await.paused_at, None);
}

#[tokio::test]
async fn a_skipped_fire_time_makes_no_run_and_the_one_after_it_does() {
    let mut scene = Scene::new().await;
    let zero = scene.now();
    let mut ids = vec![];
    for (kind, value) in [("cron", "'*/10 * * * *'"), ("fixed_rate", "'10 min'"), ("fixed_delay", "'10 min'")] {
        ids.push((kind, scene.schedule(kind, kind, value).await));
    }
    scene.fire().await;
    for (kind, id) in ids {
        let skipped: DateTime<Utc> = scene.value(format!("select watchbell.skip_next('{kind}')")).await;
        assert_eq!(skipped, zero + TimeDelta::minutes(10), "{kind}");
        scene.fire().await;
        assert_eq!(scene.schedule_row(id).await.next_fire_at, Some(zero + TimeDelta::minutes(20)), "{kind}");
    }
    scene.advance(TimeDelta::minutes(11)).await;
    assert_eq!(scene.fire().await.runs, 0);
    scene.advance(TimeDelta::minutes(9)).await;
    assert_eq!(scene.fire().await.runs, 3);
    let history: Vec<String> = scene
        .values("select disposition from watchbell.schedule_history where schedule_name = 'cron' order by fire_at")
        .await;
    assert_eq!(history, ["skipped_by_request", "run"]);
}

#[tokio::test]
async fn skipping_twice_skips_two_and_the_only_one_is_the_end() {
    let (mut scene, id) = with_schedule().await;
    scene.schedule("o", "run_at", "watchbell.clock() + interval '1 h'").await;
    scene.fire().await;
    let zero = scene.now();
    scene.psql("select watchbell.skip_next('s')").await;
    let early = refusal(&mut scene.sql, "select watchbell.skip_next('s')").await;
    assert_eq!(
        (early.code.as_str(), early.message.as_str()),
        ("55000", "schedule \"s\" has no next fire time to skip: it is not planned yet")
    );
    scene.fire().await;
    scene.psql("select watchbell.skip_next('s')").await;
    scene.fire().await;
    assert_eq!(scene.schedule_row(id).await.next_fire_at, Some(zero + TimeDelta::minutes(30)));
    scene.psql("select watchbell.skip_next('o')").await;
    let over = refusal(&mut scene.sql, "select watchbell.skip_next('o')").await;
    assert!(over.message.ends_with("its status is done"), "{over:?}");
}

#[tokio::test]
async fn run_now_takes_what_a_fired_run_takes() {
    let mut scene = Scene::new().await;
    scene
        .schedule(
            "s",
            "cron, payload, queue, priority, max_attempts, retry, timeout, overlap, max_running, target, tags, jitter",
            r#"'*/10 * * * *', '{"a": 1}', 'q', 2, 7, '{"strategy": "fixed"}', '5 min', 'queue_all', 3, 'a=b', '{t}', '0'"#,
        )
        .await;
    scene.fire().await;
    let next: Option<DateTime<Utc>> = scene.value("select next_fire_at from watchbell.schedules").await;
    let now: i64 = scene.value("select watchbell.run_now('s')").await;
    assert_eq!(scene.value::<Option<DateTime<Utc>>>("select next_fire_at from watchbell.schedules").await, next);
    scene.advance(TimeDelta::minutes(10)).await;
    assert_eq!(scene.fire().await.runs, 1);
    let different: Vec<String> = scene
        .values(format!(
            "select a.key from watchbell.runs_live x, watchbell.runs_live y, jsonb_each(to_jsonb(x)) a, jsonb_each(to_jsonb(y)) b
             where x.id = {now} and y.id <> {now} and a.key = b.key and a.value is distinct from b.value order by 1"
        ))
        .await;
    assert_eq!(different, ["created_at", "fire_at", "id", "run_at", "trigger"]);
    assert_eq!(scene.run(now).await.trigger, "run_now");
}

#[tokio::test]
async fn a_paused_schedule_runs_now_with_another_payload() {
    let (mut scene, _) = with_schedule().await;
    scene.psql("select watchbell.pause('s')").await;
    let id: i64 = scene.value(r#"select watchbell.run_now('s', '{"only": "me"}')"#).await;
    let mut worker = scene.worker("w", &["mail"]).await;
    let run = scene.claim_one(&mut worker).await;
    assert_eq!((run.id, run.payload.as_str()), (id, r#"{"only": "me"}"#));
    let bad = refusal(&mut scene.sql, "select watchbell.run_now('s', '[]')").await;
    assert_eq!(bad.message, "schedule \"s\": payload must be a JSON object (got array)");
}

#[tokio::test]
async fn enqueue_answers_the_open_run_of_its_unique_key() {
    let mut scene = Scene::new().await;
    let call = "select watchbell.enqueue('mail', '{\"to\": 1}', unique_key => 'k', run_at => watchbell.clock())";
    let id: i64 = scene.value(call).await;
    assert_eq!(scene.value::<i64>(call).await, id);
    let mut worker = scene.worker("w", &["mail"]).await;
    let run = scene.claim_one(&mut worker).await;
    assert_eq!(scene.value::<i64>(call).await, id, "it runs, so it is open");
    scene.end(&run, watchbell::run::transition::Event::Succeeded).await;
    assert_ne!(scene.value::<i64>(call).await, id);
    let bad = refusal(&mut scene.sql, "select watchbell.enqueue('')").await;
    assert_eq!(bad.column, "handler");
}

#[tokio::test]
async fn enqueue_many_answers_in_order_and_all_or_none() {
    let mut scene = Scene::new().await;
    let open: i64 = scene.value("select watchbell.enqueue('mail', unique_key => 'b')").await;
    let ids: Vec<Option<i64>> = scene
        .values(
            "select * from watchbell.enqueue_many('mail', array['{\"n\": 1}', '{\"n\": 2}', '{\"n\": 3}']::jsonb[],
                                                  unique_keys => '{a,b,NULL}', queue => 'bulk')",
        )
        .await;
    assert_eq!(ids.len(), 3);
    assert!(ids[0].is_some() && ids[1].is_none() && ids[2] > ids[0] && ids[0] > Some(open), "{ids:?}");
    assert_eq!(scene.run(ids[2].unwrap()).await.payload.get(), r#"{"n": 3}"#);
    let bad = "select watchbell.enqueue_many('mail', array['{}', '[]']::jsonb[])";
    let bad = refusal(&mut scene.sql, bad).await;
    assert_eq!(bad.message, "entry 2: run for handler \"mail\": payload must be a JSON object (got array)");
    let bad = "select watchbell.enqueue_many('mail', array_fill('{}'::jsonb, array[100001]))";
    assert!(refusal(&mut scene.sql, bad).await.message.contains("more than the limit of 100000"));
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs").await, 3);
    assert!(scene.values::<i64>("select watchbell.enqueue_many('mail', '{}')").await.is_empty());
}

#[tokio::test]
async fn cancel_schedule_cancels_what_waits_and_asks_what_runs() {
    let (mut scene, id) = with_schedule().await;
    scene.psql("select watchbell.run_now('s')").await;
    let mut worker = scene.worker("w", &["mail"]).await;
    let running = scene.claim_one(&mut worker).await;
    scene.psql("select watchbell.run_now('s')").await;
    let other = scene.enqueue("mail").await;
    assert_eq!(scene.value::<i32>("select watchbell.cancel_schedule('s', 'not today')").await, 2);
    assert!(scene.run(running.id).await.cancel_requested_at.is_some());
    assert_eq!(scene.status(other).await, "pending");
    assert_eq!(scene.schedule_row(id).await.paused_at, None, "it goes on firing");
}

#[tokio::test]
async fn a_retry_is_a_new_run_and_the_old_one_stays() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("w", &["mail"]).await;
    let once = scene.new_run("mail").max_attempts(1).unique_key("k").priority(1);
    let id = scene.insert(once).await;
    let open = refusal(&mut scene.sql, &format!("select watchbell.retry({id})")).await;
    assert_eq!(open.message, format!("run {id} cannot be retried: it is pending and has not ended"));
    let run = scene.claim_one(&mut worker).await;
    scene.end(&run, failure()).await;
    let before: Value = scene.value(format!("select to_jsonb(f) from watchbell.runs_finished f where id = {id}")).await;
    let retry: i64 = scene.value(format!("select watchbell.retry({id})")).await;
    assert_eq!(scene.value::<i64>(format!("select watchbell.retry({id})")).await, retry, "a second click is the same");
    let row = scene.run(retry).await;
    assert_eq!(
        (row.trigger.as_str(), row.retry_of.map(|id| id.0), row.attempt, row.priority, row.unique_key.as_deref()),
        ("retry", Some(id), 0, 1, Some("k"))
    );
    scene.psql(format!("select watchbell.cancel({retry})")).await;
    let after: Value = scene.value(format!("select to_jsonb(f) from watchbell.runs_finished f where id = {id}")).await;
    assert_eq!(before, after);
    let blocker = scene.new_run("mail").unique_key("k");
    let blocker = scene.insert(blocker).await;
    let taken = refusal(&mut scene.sql, &format!("select watchbell.retry({id})")).await;
    assert_eq!(
        (taken.code.as_str(), taken.message.as_str()),
        ("23505", format!("run {id} cannot be retried: run {blocker} with its unique_key \"k\" is open").as_str())
    );
}

#[tokio::test]
async fn retry_failed_retries_each_once_and_only_what_was_asked_for() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("w", &["mail", "report"]).await;
    for handler in ["mail", "mail", "mail", "report"] {
        let run = scene.new_run(handler).max_attempts(1);
        scene.insert(run).await;
    }
    for run in scene.claim(&mut worker, 10).await {
        scene.end(&run, failure()).await;
    }
    let since = "since => watchbell.clock() - interval '1 h'";
    assert_eq!(scene.value::<i32>(format!("select watchbell.retry_failed('mail', {since}, max => 2)")).await, 2);
    assert_eq!(scene.value::<i32>(format!("select watchbell.retry_failed('mail', {since})")).await, 1);
    assert_eq!(scene.value::<i32>(format!("select watchbell.retry_failed({since})")).await, 1);
    assert_eq!(scene.value::<i32>(format!("select watchbell.retry_failed({since})")).await, 0);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.runs where trigger = 'retry'").await, 4);
    assert!(refusal(&mut scene.sql, "select watchbell.retry_failed(max => 0)").await.message.starts_with("max 0"));
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let mut scene = Scene::new().await;
    scene.enqueue("mail").await;
    let mut worker = scene.worker("w", &["mail"]).await;
    for _ in 0..2 {
        assert_eq!(scene.value::<String>("select watchbell.pause_queue('default', 'broken')").await, "default");
    }
    assert!(scene.claim(&mut worker, 1).await.is_empty());
    assert_eq!(scene.value::<String>("select watchbell.resume_queue('default')").await, "default");
    scene.claim_one(&mut worker).await;
    let bad = refusal(&mut scene.sql, "select watchbell.pause_queue('no way')").await;
    assert_eq!(bad.message, "queue \"no way\" is not a valid name");
}

#[tokio::test]
async fn a_drain_is_asked_for_once_and_taken_back_while_nobody_saw_it() {
    let mut scene = Scene::new().await;
    let worker = scene.worker("w", &["mail"]).await;
    let id = worker.id();
    let request: i64 = scene.value(format!("select watchbell.drain({id})")).await;
    assert_eq!(scene.value::<i64>(format!("select watchbell.drain({id}, 'again')")).await, request);
    assert!(scene.value::<bool>(format!("select watchbell.undrain({id})")).await);
    assert!(!scene.value::<bool>(format!("select watchbell.undrain({id})")).await);
    let asked = watchbell::lifecycle::requests::requests(&mut scene.sql, id).await.unwrap();
    assert!(!asked.drain);
    scene.psql(format!("update watchbell.workers set state = 'draining' where id = {id}")).await;
    let late = refusal(&mut scene.sql, &format!("select watchbell.undrain({id})")).await;
    assert_eq!(late.message, format!("worker {id} is draining already and will stop"));
    scene.psql(format!("update watchbell.workers set state = 'dead', ended_at = now() where id = {id}")).await;
    let dead = refusal(&mut scene.sql, &format!("select watchbell.drain({id})")).await;
    assert_eq!(dead.message, format!("worker {id} cannot be drained: it is dead"));
}

/// The answers of the same call on several connections at once.
async fn at_once(scene: &Scene, call: &str) -> Vec<Result<i64, String>> {
    let mut calls = vec![];
    for _ in 0..6 {
        let (mut connection, call) = (scene.connect().await, call.to_owned());
        calls.push(tokio::spawn(async move {
            let answer = sqlx::query_scalar(sqlx::AssertSqlSafe(call)).fetch_one(&mut connection).await;
            answer.map_err(|e| e.to_string())
        }));
    }
    let mut answers = vec![];
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn many_who_click_at_once_get_one_retry_one_run_and_one_schedule() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("w", &["mail"]).await;
    let run = scene.new_run("mail").max_attempts(1);
    let id = scene.insert(run).await;
    let run = scene.claim_one(&mut worker).await;
    scene.end(&run, failure()).await;
    for call in [
        format!("select watchbell.retry({id})"),
        "select watchbell.enqueue('mail', unique_key => 'k')".to_owned(),
        "select watchbell.schedule('n', 'mail', cron => '@daily')".to_owned(),
    ] {
        let answers = at_once(&scene, &call).await;
        assert!(answers.iter().all(|answer| answer.is_ok() && *answer == answers[0]), "{call}: {answers:?}");
    }
    let counts = "select array[(select count(*) from watchbell.runs), (select count(*) from watchbell.schedules)]";
    assert_eq!(scene.value::<Vec<i64>>(counts).await, [3, 1]);
}

#[tokio::test]
async fn many_who_skip_at_once_skip_one_and_the_others_are_told() {
    let (mut scene, _) = with_schedule().await;
    let call = "select extract(epoch from watchbell.skip_next('s'))::bigint";
    let answers = at_once(&scene, call).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.fires").await, 1);
}

#[tokio::test]
async fn a_refused_schedule_is_not_buried_under_a_statement() {
    let mut scene = Scene::new().await;
    let refused = "select watchbell.schedule('s', 'mail', cron => '0 2 * * *', timezone => 'Europe/Pariss')";
    let error = sqlx::query(refused).execute(&mut scene.sql).await.unwrap_err();
    let error = error.as_database_error().unwrap().downcast_ref::<PgDatabaseError>();
    assert_eq!(error.message(), "unknown timezone \"Europe/Pariss\" for schedule \"s\"");
    assert_eq!(
        (error.code(), error.column(), error.hint()),
        ("22023", Some("timezone"), Some("Did you mean \"Europe/Paris\"?"))
    );
    let context = error.r#where().unwrap();
    assert!(!context.contains('\n') && context.starts_with("PL/pgSQL function"), "{context}");
}

//! What needs a person is listed, each with its reason and the command to run next; what does not, is not.

use chrono::TimeDelta;
use watchbell::client::{self, AttentionRow, Severity};
use watchbell::run::transition::Event;

use crate::cli::{Ended, run};
use crate::support::Scene;
use crate::support::scene::{BY_LEASE, failure};

const MINUTE: TimeDelta = TimeDelta::minutes(1);

async fn attention(scene: &mut Scene) -> Vec<AttentionRow> {
    client::attention(&mut scene.sql).await.unwrap()
}

/// The one thing that needs a person.
async fn only(scene: &mut Scene) -> AttentionRow {
    let mut rows = attention(scene).await;
    assert_eq!(rows.len(), 1, "{rows:#?}");
    rows.remove(0)
}

/// As it is told: `severity kind: subject_kind subject; reason $ command`.
fn told(row: &AttentionRow) -> String {
    let AttentionRow { severity, kind, subject_kind, subject, reason, command, .. } = row;
    format!("{severity} {kind}: {subject_kind} {subject}; {reason} $ {command}")
}

async fn only_told(scene: &mut Scene) -> String {
    told(&only(scene).await)
}

/// Watches a table of its own.
async fn watch(scene: &mut Scene, name: &str) {
    scene.psql(format!("create table {name} (id bigint primary key, status text not null default 'pending')")).await;
    let insert = "set client_min_messages = error; insert into watchbell.watches (name, table_name, handler)";
    scene.psql(format!("{insert} values ('{name}', '{name}', 'mail')")).await;
}

/// Fails the next run that is due, on its last attempt.
async fn fail(scene: &mut Scene, worker: &mut crate::support::scene::Worker) {
    let run = scene.claim_one_of(worker).await;
    scene.end(&run, Event::Fatal { message: "it broke".to_owned() }).await;
}

#[tokio::test]
async fn a_worker_and_schedules_that_fire_need_nobody() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("w", &["mail"]).await;
    scene.schedule("s", "fixed_rate", "'1 min'").await;
    scene.schedule("d", "fixed_delay", "'1 min'").await;
    for _ in 0..3 {
        scene.fire().await;
        for run in scene.claim(&mut worker, 10).await {
            scene.end(&run, Event::Succeeded).await;
        }
        assert_eq!(attention(&mut scene).await, []);
        scene.advance(MINUTE).await;
    }
    scene.psql("select watchbell.pause('s'), watchbell.pause_queue('q')").await;
    assert_eq!(attention(&mut scene).await, [], "a pause is meant");
}

#[tokio::test]
async fn without_a_live_worker_that_is_all_there_is_to_say() {
    let mut scene = Scene::new().await;
    scene.schedule("s", "fixed_rate", "'1 min'").await;
    scene.enqueue("mail").await;
    scene.advance(MINUTE * 10).await;
    let database: String = scene.value("select current_database()::text").await;
    let expected = format!(
        "critical no_worker: database {database}; no live worker: nothing fires and nothing runs $ watchbell worker run"
    );
    assert_eq!(only_told(&mut scene).await, expected);
}

#[tokio::test]
async fn a_schedule_that_nobody_acts_on_is_overdue() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    let id = scene.schedule("s", "fixed_rate", "'1 h'").await;
    scene.psql("update watchbell.schedules set updated_at = watchbell.clock()").await;
    assert_eq!(attention(&mut scene).await, []);
    scene.advance(MINUTE * 2).await;
    let row = only(&mut scene).await;
    assert_eq!((row.kind.as_str(), row.severity), ("overdue", Severity::Critical));
    assert!(row.reason.starts_with("it was changed 2m ago and no worker has planned it (limit 1m)"), "{row:?}");
    scene.fire().await;
    assert_eq!(attention(&mut scene).await, []);
    let next = scene.schedule_row(id).await.next_fire_at.unwrap();
    scene.advance(next - scene.now() + TimeDelta::seconds(65)).await;
    let row = only(&mut scene).await;
    assert_eq!(row.since, Some(next));
    let at = next.format("%Y-%m-%d %H:%M:%S UTC");
    let expected = format!("its fire time {at} passed 1m5s ago and no worker has acted on it (limit 1m)");
    assert!(row.reason.starts_with(&expected), "{row:?}");
}

#[tokio::test]
async fn failures_in_a_row_are_told_until_one_succeeds() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("w", &["mail"]).await;
    scene.schedule("s", "fixed_rate, max_attempts", "'1 min', 1").await;
    scene.fire().await;
    for failures in 1..=3 {
        scene.advance(MINUTE).await;
        scene.fire().await;
        assert_eq!(attention(&mut scene).await, [], "{failures}");
        fail(&mut scene, &mut worker).await;
    }
    let expected = "critical failing: schedule s; it failed 3 times in a row (limit 2) and never succeeded \
                    $ watchbell runs list --schedule s --status failed";
    assert_eq!(only_told(&mut scene).await, expected);
    scene.advance(MINUTE).await;
    scene.fire().await;
    let run = scene.claim_one(&mut worker).await;
    scene.end(&run, Event::Succeeded).await;
    assert_eq!(attention(&mut scene).await, []);
}

#[tokio::test]
async fn a_schedule_that_its_failures_paused_is_told_at_once() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("w", &["mail"]).await;
    scene.schedule("s", "fixed_rate, max_attempts, pause_after_failures", "'1 min', 1, 1").await;
    scene.fire().await;
    scene.advance(MINUTE).await;
    scene.fire().await;
    fail(&mut scene, &mut worker).await;
    let expected = "critical paused_by_failures: schedule s; it was paused after 1 failures in a row \
                    (its pause_after_failures is 1) $ watchbell schedule resume s";
    assert_eq!(only_told(&mut scene).await, expected);
    scene.advance(TimeDelta::days(8)).await;
    assert_eq!(only_told(&mut scene).await, expected, "one row, however long");
}

#[tokio::test]
async fn a_pause_of_more_than_a_week_may_have_been_forgotten() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    scene.schedule("s", "fixed_rate", "'1 h'").await;
    scene.schedule("u", "fixed_rate", "'1 h'").await;
    scene.fire().await;
    scene.psql("select watchbell.pause('s', 'the warehouse moves')").await;
    scene.psql("select watchbell.pause('u', 'until then', watchbell.clock() + interval '30 days')").await;
    scene.psql("select watchbell.pause_queue('q')").await;
    watch(&mut scene, "h").await;
    scene.psql("update watchbell.watches set paused_at = watchbell.clock()").await;
    let real = scene.value::<bool>("select paused_at = watchbell.clock() from watchbell.schedules where name = 's'");
    if !real.await {
        let set = "paused_at = watchbell.clock()";
        scene.psql(format!("update watchbell.schedules set {set}; update watchbell.queues set {set}")).await;
    }
    scene.advance(TimeDelta::days(7)).await;
    assert_eq!(attention(&mut scene).await, []);
    scene.advance(TimeDelta::hours(1)).await;
    let mut rows: Vec<String> = attention(&mut scene).await.iter().map(told).collect();
    rows.sort();
    assert_eq!(rows.len(), 3, "{rows:#?}");
    assert!(rows[0].starts_with("warning paused: queue q; it has been paused for 7d1h by "), "{rows:#?}");
    assert!(rows[0].ends_with(" (limit 7d) $ watchbell queue resume q"), "{rows:#?}");
    assert!(rows[1].ends_with(" (limit 7d): the warehouse moves $ watchbell schedule resume s"), "{rows:#?}");
    assert!(rows[2].ends_with("watchbell watch resume h"), "{rows:#?}");
}

#[tokio::test]
async fn what_will_never_fire_is_told() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    scene.schedule("february", "cron", "'0 0 31 2 *'").await;
    scene.schedule("over", "cron, ends_at", "'@daily', watchbell.clock() + interval '1 min'").await;
    watch(&mut scene, "h").await;
    scene.psql("update watchbell.watches set status = 'invalid', error = 'no x'").await;
    scene.fire().await;
    let mut rows: Vec<String> = attention(&mut scene).await.iter().map(told).collect();
    rows.sort();
    assert_eq!(rows.len(), 3, "{rows:#?}");
    assert!(rows[0].starts_with("critical invalid: schedule february; it will never fire: "), "{rows:#?}");
    assert!(rows[0].ends_with(" $ watchbell schedule show february"), "{rows:#?}");
    assert!(rows[1].starts_with("critical invalid: watch h; no row of it is taken: no x $ "), "{rows:#?}");
    assert!(rows[2].starts_with("warning never_fired: schedule over; it is done and has made no run"), "{rows:#?}");
}

#[tokio::test]
async fn a_hundred_open_runs_of_a_schedule_are_its_ceiling() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    let id = scene.schedule("s", "fixed_rate", "'1 h'").await;
    scene.schedule("other", "fixed_rate", "'1 h'").await;
    scene.fire().await;
    let open = format!("{id}, 's', 'schedule', 'mail' from generate_series(1, 99)");
    scene.enqueue_many("schedule_id, schedule_name, trigger, handler", open).await;
    assert_eq!(attention(&mut scene).await, []);
    scene.enqueue_many("schedule_id, trigger, handler", format!("{id}, 'schedule', 'mail'")).await;
    let expected = "critical too_many_open: schedule s; 100 of its runs are open, which is the limit under overlap \
                    allow: further fire times make no run $ watchbell schedule edit s --overlap skip";
    assert_eq!(only_told(&mut scene).await, expected);
}

#[tokio::test]
async fn runs_that_no_live_worker_serves_are_told_after_a_minute() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail", "fax"]).await;
    scene.psql("update watchbell.workers set queues = '{default}', labels = '{zone=us}'").await;
    for run in [
        scene.new_run("mail").queue("slow"),
        scene.new_run("print").concurrency_key("k"),
        scene.new_run("print").concurrency_key("k"),
        scene.new_run("fax").target("zone=eu"),
        scene.new_run("fax").target("zone=us"),
        scene.new_run("fax").queue("paused"),
    ] {
        scene.insert(run).await;
    }
    scene.psql("select watchbell.pause_queue('paused')").await;
    assert_eq!(attention(&mut scene).await, []);
    scene.advance(TimeDelta::seconds(70)).await;
    let mut rows: Vec<String> = attention(&mut scene).await.iter().map(told).collect();
    rows.sort();
    let wait = "the oldest for 1m10s (limit 1m)";
    assert_eq!(
        rows,
        [
            format!(
                "critical unserved_handler: handler print; no worker has ever registered handler \"print\"; \
                 2 due runs wait, {wait} $ watchbell handlers list --unserved"
            ),
            format!(
                "critical unserved_queue: queue slow; no live worker with handler \"mail\" serves queue \"slow\"; \
                 1 due runs wait, {wait} $ watchbell worker run --queues slow"
            ),
            format!(
                "critical unserved_target: handler fax; no live worker with handler \"fax\" for queue \"default\" has \
                 the labels zone=eu; 1 due runs wait, {wait} $ watchbell worker run --labels zone=eu"
            ),
        ]
    );
}

#[tokio::test]
async fn schedules_that_no_live_worker_serves_are_told_before_they_fire() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    let columns = "(name, fixed_rate, handler, target)";
    for values in ["('a', '1 h', 'shell', null)", "('b', '1 h', 'shell', null)", "('c', '1 h', 'mail', 'zone=eu')"] {
        let insert = format!("insert into watchbell.schedules {columns} values {values}");
        scene.psql(format!("set client_min_messages = error; {insert}")).await;
    }
    scene.fire().await;
    let mut rows: Vec<String> = attention(&mut scene).await.iter().map(told).collect();
    rows.sort();
    assert_eq!(
        rows,
        [
            "warning unserved_handler: handler shell; no worker has ever registered handler \"shell\"; wanted by \
             2 schedules, \"a\" first $ watchbell worker run --enable-shell",
            "warning unserved_target: schedule c; no live worker with handler \"mail\" for queue \"default\" has the \
             labels zone=eu; wanted by 1 schedule, \"c\" first $ watchbell worker run --labels zone=eu",
        ]
    );
}

#[tokio::test]
async fn a_run_beyond_its_timeout_is_stuck() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("w", &["mail"]).await;
    scene.enqueue("mail").await;
    let run = scene.claim_one(&mut worker).await;
    scene.advance(TimeDelta::minutes(61)).await;
    assert_eq!(attention(&mut scene).await, []);
    scene.advance(TimeDelta::seconds(1)).await;
    let expected = format!(
        "critical stuck: run {}; it has run for 1h1m, beyond its timeout of 1h: its handler \"mail\" does not stop; \
         worker \"w\" (process 1 on scene) has it $ watchbell workers drain {}",
        run.id,
        worker.id()
    );
    assert_eq!(only_told(&mut scene).await, expected);
    scene.end(&run, failure()).await;
    assert_eq!(attention(&mut scene).await, []);
}

#[tokio::test]
async fn a_worker_that_falls_silent_is_told_and_then_that_it_died() {
    let mut scene = Scene::new().await;
    let judge = scene.worker("judge", &["mail"]).await;
    let lost = scene.worker("lost", &["mail"]).await;
    scene.silence(&lost);
    scene.advance(TimeDelta::seconds(6)).await;
    let id = lost.id();
    let expected = format!(
        "warning silent: worker lost; worker {id} (process 1 on scene) was last heard of 6s ago (limit 5s) \
         $ watchbell workers show {id}"
    );
    assert_eq!(only_told(&mut scene).await, expected);
    scene.advance(TimeDelta::seconds(10)).await;
    let row = only(&mut scene).await;
    assert_eq!((row.severity, row.kind.as_str()), (Severity::Critical, "silent"));
    assert!(row.reason.ends_with("; its lease is over and no other worker has taken its runs"), "{row:?}");
    assert_eq!(scene.judge(&judge, BY_LEASE).await.len(), 1);
    scene.advance(TimeDelta::minutes(3)).await;
    let expected = format!(
        "warning died: worker lost; worker {id} (process 1 on scene) died 3m ago; others took its runs back \
         $ watchbell workers list --all"
    );
    assert_eq!(only_told(&mut scene).await, expected);
    scene
        .psql("update watchbell.workers set ended_at = ended_at + interval '1 s', state = 'dead' where name = 'lost'")
        .await;
    let insert = "insert into watchbell.workers (name, host, pid, version, slots, state, lease_until, ended_at)";
    let values = "('again', 'scene', 2, 'x', 1, 'dead', now(), watchbell.clock())";
    scene.psql(format!("{insert} values {values}")).await;
    let reason = only(&mut scene).await.reason;
    assert!(reason.starts_with("2 workers on scene died within the last hour, worker "), "{reason}");
    scene.advance(TimeDelta::hours(1)).await;
    assert_eq!(attention(&mut scene).await, [], "an hour later it is history");
}

#[tokio::test]
async fn a_worker_is_judged_by_what_it_says_of_itself() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    scene.worker("odd", &["mail"]).await;
    let of = |set: &str| format!("update watchbell.workers set {set} where name = 'odd'");
    let id: i32 = scene.value("select id from watchbell.workers where name = 'odd'").await;
    scene.psql(of("clock_skew = '-2 s', schema_version = 10000, retention = '1 day'")).await;
    assert_eq!(attention(&mut scene).await, []);
    scene.psql(of("clock_skew = '-95 s'")).await;
    let reason = only(&mut scene).await.reason;
    assert_eq!(reason, format!("the clock of worker {id} on scene is 1m35s behind the database's (limit 2s)"));
    scene.psql(of("clock_skew = null, schema_version = 1")).await;
    let row = only(&mut scene).await;
    assert_eq!((row.kind.as_str(), row.command), ("outdated", format!("watchbell workers drain {id}")));
    scene.psql(of("schema_version = null, state = 'draining', draining_until = watchbell.clock()")).await;
    scene.advance(MINUTE).await;
    assert_eq!(attention(&mut scene).await, []);
    scene.advance(MINUTE).await;
    let row = only(&mut scene).await;
    assert_eq!(row.kind, "draining");
    assert_eq!(
        row.reason,
        format!("worker {id} should have stopped 2m ago, by its drain timeout (limit 1m more): end process 1 on scene")
    );
}

#[tokio::test]
async fn days_that_are_missing_or_stay_are_told() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    let day = (scene.now() + TimeDelta::days(2)).format("%Y%m%d").to_string();
    scene.psql(format!("drop table watchbell.runs_finished_{day}")).await;
    let row = only(&mut scene).await;
    let day = (scene.now() + TimeDelta::days(2)).format("%Y-%m-%d");
    let expected = format!(
        "table watchbell.runs_finished has no partition for {day}, and workers could not make it (limit 2 days ahead)"
    );
    assert_eq!((row.kind.as_str(), row.reason), ("day_missing", expected));
    scene.psql(row.command).await;
    assert_eq!(attention(&mut scene).await, []);
    scene.psql("update watchbell.workers set retention = '1 day'").await;
    assert_eq!(attention(&mut scene).await, []);
    scene.advance(TimeDelta::days(3)).await;
    let rows = attention(&mut scene).await;
    let tables: i64 = scene.value("select cardinality(watchbell.day_parents())::bigint").await;
    assert!(rows.iter().all(|row| row.kind == "day_not_dropped"), "{rows:#?}");
    assert_eq!(rows.len() as i64, tables);
    for row in rows {
        assert!(row.reason.contains(" are kept beyond the retention of 1d (limit 1d more)"), "{row:?}");
        scene.psql(row.command).await;
    }
    assert_eq!(attention(&mut scene).await, []);
}

#[tokio::test]
async fn a_transaction_that_holds_up_vacuum_for_an_hour_is_told() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    let mut other = scene.database.connect().await;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut other).await.unwrap();
    sqlx::raw_sql("begin isolation level repeatable read; select 1").execute(&mut other).await.unwrap();
    let ahead: f64 = scene.value("select extract(epoch from clock_timestamp() - watchbell.clock())::float8").await;
    scene.advance(TimeDelta::seconds(ahead as i64) + TimeDelta::minutes(59)).await;
    assert_eq!(attention(&mut scene).await, []);
    scene.advance(TimeDelta::minutes(2)).await;
    let row = only(&mut scene).await;
    assert_eq!((row.kind.as_str(), row.command), ("old_snapshot", format!("SELECT pg_terminate_backend({pid})")));
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    assert_eq!(attention(&mut scene).await, []);
}

#[tokio::test]
async fn the_worst_comes_first_and_every_command_exists() {
    let mut scene = Scene::new().await;
    for run in [scene.new_run("a"), scene.new_run("mail").target("a=b'c")] {
        scene.insert(run).await;
    }
    let mut worker = scene.worker("w", &["mail", "m"]).await;
    scene.schedule("s", "cron", "'0 0 31 2 *'").await;
    scene.schedule("o", "cron, ends_at", "'@daily', watchbell.clock() + interval '1 min'").await;
    for name in ["f", "p", "late"] {
        scene.schedule(name, "fixed_rate", "'30 days'").await;
    }
    scene.psql("select watchbell.pause_queue('q')").await;
    watch(&mut scene, "h").await;
    scene.psql("update watchbell.watches set status = 'invalid', error = 'no x'").await;
    watch(&mut scene, "p").await;
    scene.psql("update watchbell.watches set paused_at = 'epoch' where name = 'p'").await;
    scene.fire().await;
    scene.psql("update watchbell.schedules set consecutive_failures = 9 where name = 'f'").await;
    scene.psql("update watchbell.schedules set paused_at = 'epoch' where name = 'p'").await;
    scene.psql("update watchbell.schedules set wake_at = watchbell.clock() where name = 'late'").await;
    scene.psql("update watchbell.queues set paused_at = 'epoch' where name = 'q'").await;
    let stuck = scene.new_run("m").timeout(std::time::Duration::from_secs(60));
    scene.insert(stuck).await;
    scene.worker("silent", &[]).await;
    scene.claim(&mut worker, 10).await;
    let elsewhere = scene.new_run("mail").queue("slow");
    scene.insert(elsewhere).await;
    scene.psql("update watchbell.workers set queues = '{default}'").await;
    scene.advance(MINUTE * 5).await;
    scene.psql("update watchbell.workers set clock_skew = '1 h', schema_version = 1, heartbeat_at = heartbeat_at - interval '6 s' where name = 'silent'").await;
    let rows = attention(&mut scene).await;
    assert!(rows.is_sorted_by_key(|row| row.severity), "{rows:#?}");
    let mut kinds: Vec<&str> = rows.iter().map(|row| row.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let expected = [
        "clock_skew",
        "failing",
        "invalid",
        "never_fired",
        "outdated",
        "overdue",
        "paused",
        "silent",
        "stuck",
        "unserved_handler",
        "unserved_queue",
        "unserved_target",
    ];
    assert_eq!(kinds, expected, "{rows:#?}");
    for AttentionRow { command, .. } in rows {
        let Some(arguments) = command.strip_prefix("watchbell ") else {
            scene.psql(format!("prepare command as {command}; deallocate command")).await;
            continue;
        };
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let Ended(code, help, stderr) = run(None, &[words[0], words[1], "--help"]);
        assert_eq!(code, 0, "{command}: {stderr}");
        let flags = words.iter().filter(|word| word.starts_with("--"));
        assert!(flags.clone().all(|flag| help.contains(flag)), "{command}: {help}");
    }
}

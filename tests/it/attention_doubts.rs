//! What needs a person, continued: crash loops, doubtful time zones, targets of whole fleets, and watches.

use chrono::TimeDelta;
use watchbell::client::{self, AttentionRow};

use crate::cli::{Ended, run};
use crate::support::Scene;

/// As they are told: `severity kind: subject_kind subject; reason $ command`.
async fn told(scene: &mut Scene) -> Vec<String> {
    let rows = client::attention(&mut scene.sql).await.unwrap();
    let line = |row: &AttentionRow| {
        let AttentionRow { severity, kind, subject_kind, subject, reason, command, .. } = row;
        format!("{severity} {kind}: {subject_kind} {subject}; {reason} $ {command}")
    };
    rows.iter().map(line).collect()
}

#[tokio::test]
async fn a_crash_loop_and_a_doubtful_time_zone_are_told() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    scene.schedule("loops", "fixed_delay, keep_alive, copies", "'1 s', true, 2").await;
    scene.schedule("abroad", "cron, timezone", "'@daily', 'Europe/Vienna'").await;
    scene.fire().await;
    assert_eq!(told(&mut scene).await, [""; 0]);
    scene
        .psql(
            "update watchbell.schedules set crash_loop_since = watchbell.clock(), consecutive_failures = 7 where name = 'loops'; \
             update watchbell.copies set restarts = 4 + copy; \
             update watchbell.schedules set tz_mismatch = 'the clocks differ' where name = 'abroad'",
        )
        .await;
    assert_eq!(
        told(&mut scene).await,
        [
            "critical crash_loop: schedule loops; a copy of it ended within a minute of its start 6 times in a row \
             (limit 4) $ watchbell runs list --schedule loops",
            "warning tz_mismatch: schedule abroad; the clocks differ $ watchbell schedule show abroad",
        ]
    );
    scene.psql("update watchbell.schedules set paused_at = watchbell.clock()").await;
    assert_eq!(told(&mut scene).await, [""; 0]);
}

#[tokio::test]
async fn a_schedule_for_every_worker_is_unserved_when_none_has_its_labels() {
    let mut scene = Scene::new().await;
    scene.worker("w", &["mail"]).await;
    scene.psql("update watchbell.workers set labels = '{zone=eu,disk=fast}'").await;
    scene.schedule("everywhere", "fixed_rate, target", "'1 h', 'all'").await;
    scene.schedule("europe", "fixed_rate, target", "'1 h', 'all:zone=eu'").await;
    let number: i32 = scene.value("select id from watchbell.workers").await;
    scene.schedule("there", "fixed_rate, target", &format!("'1 h', 'worker={number},zone=eu'")).await;
    assert_eq!(told(&mut scene).await, [""; 0]);
    scene.schedule("overseas", "fixed_rate, target", "'1 h', 'all:zone=us'").await;
    assert_eq!(
        told(&mut scene).await,
        ["warning unserved_target: schedule overseas; no live worker with handler \"mail\" for queue \"default\" has \
          the labels zone=us; wanted by 1 schedule, \"overseas\" first $ watchbell worker run --labels zone=us"]
    );
}

#[tokio::test]
async fn a_watch_is_told_when_invalid_long_paused_or_without_a_worker() {
    let mut scene = Scene::new().await;
    scene.psql("create table hosts (id bigint primary key, status text not null default 'pending')").await;
    let insert =
        "set client_min_messages = error; insert into watchbell.watches (name, table_name, handler, transitions)";
    let steps = r#"[{"from": "pending", "to": "made", "handler": "make"}, {"from": "made", "to": "asked", "handler": "http"}, {"from": "asked", "to": "normal", "handler": "make"}]"#;
    scene
        .psql(format!(
            "{insert} values ('plain', 'hosts', 'make', null), ('old', 'hosts', 'make', null), ('steps', 'hosts', null, '{steps}')"
        ))
        .await;
    let only: Vec<String> = told(&mut scene).await;
    assert!(only.len() == 1 && only[0].starts_with("critical no_worker"), "{only:?}");
    scene.worker("w", &["make", "http"]).await;
    assert_eq!(told(&mut scene).await, [""; 0]);
    scene.psql("update watchbell.workers set handlers = '{mail}'").await;
    scene
        .psql("update watchbell.watches set paused_at = watchbell.clock(), paused_by = 'ann' where name = 'old'")
        .await;
    let unserved = [
        "warning unserved_handler: watch plain; no live worker has handler \"make\", so its rows stay in \"pending\" \
         $ watchbell watch show plain",
        "warning unserved_handler: watch steps; no live worker has handler \"http\", so its rows stay in \"made\" \
         $ watchbell worker run --enable-http",
        "warning unserved_handler: watch steps; no live worker has handler \"make\", so its rows stay in \"pending\", \
         \"asked\" $ watchbell watch show steps",
    ];
    let mut rows = told(&mut scene).await;
    rows.sort();
    assert_eq!(rows, unserved);
    scene.psql("update watchbell.workers set handlers = '{make,http}'").await;
    scene.advance(TimeDelta::days(8)).await;
    scene.psql("update watchbell.workers set heartbeat_at = watchbell.clock(), lease_until = watchbell.clock() + interval '1 min'; select watchbell.make_days()").await;
    scene.psql("update watchbell.watches set status = 'invalid', error = 'no table x' where name = 'plain'").await;
    let mut rows = told(&mut scene).await;
    rows.retain(|row| row.contains(": watch "));
    assert_eq!(
        rows,
        [
            "critical invalid: watch plain; no row of it is taken: no table x $ watchbell watch show plain",
            "warning paused: watch old; it has been paused for 8d by ann (limit 7d) $ watchbell watch resume old",
        ]
    );
    for verb in ["show", "resume"] {
        let Ended(code, _, stderr) = run(None, &["watch", verb, "--help"]);
        assert_eq!(code, 0, "{stderr}");
    }
}

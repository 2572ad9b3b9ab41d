//! The cluster's values are read once for all workers, from a bounded part of the tables.

use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::Value;
use watchbell::lifecycle::measure::watches::WatchValues;
use watchbell::lifecycle::measure::{Cluster, EVERY, Intervals, Measured, Queue, ScheduleValues, measure};
use watchbell::run::transition::Event;

use crate::support::Scene;

impl Scene {
    async fn measure(&mut self) -> Measured {
        let now = self.now();
        measure(&mut self.sql, &mut Intervals::default(), Some(now)).await.unwrap().expect("nobody else reads")
    }
}

fn queue<'a>(cluster: &'a Cluster, name: &str) -> &'a Queue {
    cluster.queues.iter().find(|queue| queue.name == name).unwrap_or_else(|| panic!("{name}: {cluster:?}"))
}

fn schedule<'a>(cluster: &'a Cluster, name: &str) -> &'a ScheduleValues {
    cluster.schedules.iter().find(|s| s.labels[0] == name).unwrap_or_else(|| panic!("{name}: {cluster:?}"))
}

#[tokio::test]
async fn one_reads_for_all_and_again_after_fifteen_seconds() {
    let mut scene = Scene::new().await;
    let first = scene.measure().await;
    assert_eq!((first.read_at, queue(&first.cluster, "default").pending), (scene.now(), 0));
    scene.enqueue("mail").await;
    scene.advance(TimeDelta::seconds(14)).await;
    let kept = scene.measure().await;
    assert_eq!((kept.read_at, kept.age, &kept.cluster), (first.read_at, Duration::from_secs(14), &first.cluster));
    scene.advance(TimeDelta::seconds(1)).await;
    // while another is reading, what is kept is shown, however old
    let mut other = scene.connect().await;
    sqlx::raw_sql("begin; select pg_advisory_xact_lock(hashtextextended('watchbell:metrics', 0))")
        .execute(&mut other)
        .await
        .unwrap();
    assert_eq!(scene.measure().await.age, EVERY);
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    let again = scene.measure().await;
    assert_eq!((again.read_at, again.age, queue(&again.cluster, "default").pending), (scene.now(), Duration::ZERO, 1));
    assert_eq!(
        measure(&mut other, &mut Intervals::default(), Some(scene.now())).await.unwrap(),
        Some(again),
        "another replica shows the same"
    );
}

#[tokio::test]
async fn queues_tell_what_waits_runs_and_would_never_be_taken() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("a", &["mail"]).await;
    for _ in 0..3 {
        scene.enqueue("mail").await;
    }
    let taken = scene.claim(&mut worker, 1).await;
    scene.advance(TimeDelta::seconds(40)).await;
    scene.enqueue_many_in("1 h", "queue, handler", "'slow', 'mail' from generate_series(1, 4)").await;
    scene.enqueue_many("handler", "'nobody' from generate_series(1, 2)").await;
    scene.enqueue_many("handler, target", "'mail', 'gpu=yes'").await;
    scene.enqueue_many("handler, concurrency_key", "'mail', 'k' from generate_series(1, 5)").await;
    scene.psql("insert into watchbell.queues (name, paused_at) values ('slow', now())").await;
    let Measured { cluster, .. } = scene.measure().await;
    let expected = Queue {
        name: "default".into(),
        paused: false,
        pending: 2 + 2 + 1 + 5,
        running: 1,
        oldest_pending: 40.0,
        oldest_running: 40.0,
    };
    assert_eq!(queue(&cluster, "default"), &expected);
    let slow = queue(&cluster, "slow");
    assert_eq!((slow.pending, slow.running, slow.paused, slow.oldest_pending), (4, 0, true, 0.0));
    let unclaimable: Vec<_> = cluster.unclaimable.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(unclaimable, [("mail", 1), ("nobody", 2)]);
    assert_eq!((cluster.workers["running"], cluster.workers["dead"]), (1, 0));
    assert!(cluster.tables["runs_live"].0 > 0 && cluster.tables.contains_key("runs_finished"));
    assert_eq!(cluster.schema_version, watchbell::migrate::VERSION);
    scene.end(&taken[0], Event::Succeeded).await;
    scene.advance(TimeDelta::seconds(20)).await;
    let Measured { cluster, .. } = scene.measure().await;
    assert_eq!((queue(&cluster, "default").running, queue(&cluster, "default").oldest_running), (0, 0.0));
}

#[tokio::test]
async fn a_backlog_is_counted_up_to_a_bound_and_hides_no_other_queue() {
    let mut scene = Scene::new().await;
    scene.enqueue_many("handler", "'mail' from generate_series(1, 130000)").await;
    scene.enqueue_many("queue, handler", "'small', 'mail' from generate_series(1, 10)").await;
    scene.psql("insert into watchbell.queues (name) values ('small')").await;
    scene.advance(TimeDelta::seconds(5)).await;
    let Measured { cluster, .. } = scene.measure().await;
    // three shares: two lanes, and the runs with keys
    assert_eq!((queue(&cluster, "default").pending, queue(&cluster, "small").pending), (33_333, 10));
    assert_eq!(queue(&cluster, "default").oldest_pending, 5.0);
    println!("read in {} s", cluster.took);
}

#[tokio::test]
async fn schedules_tell_what_a_dead_mans_rule_needs() {
    let mut scene = Scene::new().await;
    let mut worker = scene.worker("a", &["mail"]).await;
    scene.schedule("work-days", "cron", "'0 9 * * MON-FRI'").await;
    scene.schedule("often", "fixed_rate, owner", "'10 s', 'ops'").await;
    scene.schedule("after", "fixed_delay", "'90 s'").await;
    scene.schedule("once", "run_at", "watchbell.clock() + interval '1 h'").await;
    scene.fire().await;
    scene.psql("select watchbell.pause('after')").await;
    scene.advance(TimeDelta::seconds(10)).await;
    scene.fire().await;
    let run = scene.claim_one(&mut worker).await;
    scene.advance(TimeDelta::seconds(2)).await;
    scene.end(&run, Event::Fatal { message: "no".into() }).await;
    scene.advance(TimeDelta::seconds(13)).await;
    let Measured { cluster, .. } = scene.measure().await;
    let now = scene.now().timestamp() as f64;
    assert_eq!(schedule(&cluster, "work-days").expected_interval, Some(3.0 * 86_400.0), "over a weekend");
    let often = schedule(&cluster, "often");
    assert_eq!(often.labels, ["often", "fixed_rate", "default", "mail", "ops"].map(str::to_owned));
    assert_eq!((often.expected_interval, often.overdue, often.failures), (Some(10.0), 5.0, 1));
    assert_eq!((often.next_fire, often.last_start), (Some(now - 5.0), Some(now - 15.0)));
    assert_eq!((often.last_duration, often.last_success), (Some(2.0), now - 25.0), "created, never a success");
    let after = schedule(&cluster, "after");
    assert_eq!((after.expected_interval, after.paused, after.overdue), (Some(90.0), true, 0.0));
    let once = schedule(&cluster, "once");
    assert_eq!((once.expected_interval, once.last_start, once.overdue), (None, None, 0.0));
    assert_eq!(cluster.others, None);
}

#[tokio::test]
async fn the_worst_stands_for_schedules_beyond_the_first_thousand() {
    let mut scene = Scene::new().await;
    let columns = "(name, fixed_rate, handler)";
    scene
        .psql(format!(
            "insert into watchbell.schedules {columns} select 's' || i, '1 h', 'mail' from generate_series(1, 1003) i"
        ))
        .await;
    while scene.fire().await.schedules > 0 {}
    scene.psql("update watchbell.schedules set consecutive_failures = 4 where name = 's1002'").await;
    scene.advance(TimeDelta::minutes(90)).await;
    let Measured { cluster, .. } = scene.measure().await;
    assert_eq!(cluster.schedules.len(), 1000);
    let others = cluster.others.unwrap();
    assert_eq!((others.overdue, others.failures), (1800.0, 4));
    println!("1,000 schedules read in {} s", cluster.took);
}

impl Scene {
    /// A table with these columns beside its number and status, and a watch of the same name.
    async fn watched(&mut self, name: &str, columns: &str, since: &str) {
        self.psql(format!(
            "create table public.{name} (id bigint generated always as identity primary key,
                                         status text not null default 'pending'{columns})"
        ))
        .await;
        self.psql(format!("create index on public.{name} (id) where status = 'pending'")).await;
        let values = format!("'{name}', 'public.{name}', 'init', {since}");
        self.psql(format!("insert into watchbell.watches (name, table_name, handler, since_column) values ({values})"))
            .await;
    }
}

#[tokio::test]
async fn watches_tell_how_many_rows_wait_and_how_long_the_oldest_has() {
    let mut scene = Scene::new().await;
    scene.watched("hosts", ", status_since timestamptz not null default watchbell.clock()", "'status_since'").await;
    scene.watched("plain", "", "null").await;
    scene.psql("insert into public.plain (status) select 'pending' from generate_series(1, 10050)").await;
    let of = |name: &str, pending, oldest_pending| WatchValues {
        name: name.into(),
        pending,
        oldest_pending,
        ..WatchValues::default()
    };
    let Measured { cluster, .. } = scene.measure().await;
    assert_eq!(cluster.watches, [of("hosts", Some(0), Some(0.0)), of("plain", Some(10_000), None)]);
    let (now, ago) = (scene.now(), |seconds| TimeDelta::seconds(seconds));
    for (status, since) in [("normal", ago(900)), ("pending", ago(20)), ("pending", ago(5)), ("failed", ago(800))] {
        let values = format!("'{status}', '{}'", now - since);
        scene.psql(format!("insert into public.hosts (status, status_since) values ({values})")).await;
    }
    scene.advance(TimeDelta::seconds(20)).await;
    let Measured { cluster, .. } = scene.measure().await;
    assert_eq!(cluster.watches[0], of("hosts", Some(2), Some(40.0)));
}

#[tokio::test]
async fn a_watched_table_that_is_gone_or_locked_keeps_no_other_from_being_read() {
    let mut scene = Scene::new().await;
    for name in ["gone", "locked", "open"] {
        scene.watched(name, "", "null").await;
    }
    scene.psql("drop table public.gone").await;
    let mut other = scene.connect().await;
    sqlx::raw_sql("begin; lock table public.locked").execute(&mut other).await.unwrap();
    let measured = scene.measure().await;
    let read = measured.cluster.watches.iter().map(|watch| (watch.name.as_str(), watch.pending, watch.uncounted));
    let expected = [("gone", None, 1), ("locked", None, 1), ("open", Some(0), 0)];
    assert_eq!((read.collect::<Vec<_>>(), measured.age), (expected.to_vec(), Duration::ZERO));
    assert_eq!(queue(&measured.cluster, "default").pending, 0);
    let bounds: String = scene.value("select current_setting('lock_timeout')").await;
    assert_ne!(bounds, "50ms", "the session keeps what was set for a watch");
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
}

#[tokio::test]
async fn a_filter_leaves_rows_out_and_one_that_fails_is_that_watchs_fault() {
    let mut scene = Scene::new().await;
    scene.watched("hosts", ", weight int not null default 1", "null").await;
    scene.watched("racks", ", weight int not null default 1", "null").await;
    for table in ["hosts", "racks"] {
        scene.psql(format!("insert into public.{table} (weight) select i % 10 from generate_series(1, 100) i")).await;
    }
    scene.psql("update watchbell.watches set filter = 'weight < 3' where name = 'hosts'").await;
    scene.psql("update watchbell.watches set filter = '12 / weight < 3' where name = 'racks'").await;
    scene.psql("update watchbell.watches set paused_at = now() where name = 'racks'").await;
    let Measured { cluster, .. } = scene.measure().await;
    let read: Vec<_> = cluster.watches.iter().map(|w| (w.name.as_str(), w.pending, w.uncounted, w.paused)).collect();
    assert_eq!(read, [("hosts", Some(30), 0, false), ("racks", None, 1, true)]);
}

#[tokio::test]
async fn at_most_a_hundred_watches_are_read() {
    let mut scene = Scene::new().await;
    scene.watched("hosts", "", "null").await;
    scene
        .psql(
            "insert into watchbell.watches (name, table_name, handler)
             select 'hosts-' || i, 'public.hosts', 'init' from generate_series(1, 101) i",
        )
        .await;
    let Measured { cluster, .. } = scene.measure().await;
    println!("{} watches read within {} s", cluster.watches.len(), cluster.took);
    assert!((1..=100).contains(&cluster.watches.len()), "{}", cluster.watches.len());
}

#[tokio::test]
async fn no_finished_run_is_read_and_no_index_is_missed() {
    let mut scene = Scene::new().await;
    for (name, values) in [
        ("8_metrics_queues.sql", "100000, null"),
        ("8_metrics_schedules.sql", "1000, null"),
        ("8_metrics_kept.sql", "null"),
    ] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql").join(name)).unwrap();
        scene.psql(format!("prepare it as {text}")).await;
        let plan: Value = scene.value(format!("explain (format json) execute it ({values})")).await;
        scene.psql("deallocate it").await;
        let plan = plan.to_string();
        assert!(!plan.contains("runs_finished"), "{name}: {plan}");
        assert!(!plan.contains("\"Node Type\":\"Sort\",\"Parent") || name.contains("queues"), "{name}: {plan}");
    }
}

//! Hours without a worker, ten thousand slots and edits in between: what three workers make of them afterwards.

use std::collections::BTreeSet;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use watchbell::lifecycle::fire::fire;

use crate::support::fleet::{SOON, accounted, by_schedule, first_starts, psql, second, seconds_after, three};
use crate::support::journal::Journal;
use crate::support::wait::until_true;
use crate::support::{Database, Scene, scene};

/// Schedules of each second, one for each misfire policy, and how many runs an hour's outage brings: at least, at most.
const POLICIES: [(&str, &str, usize, usize); 4] = [
    ("once", "'fire_once', '1 min'", 1, 1),
    ("prompt", "'skip', '10 s'", 0, 1),
    ("late", "'skip', '0'", 0, 1),
    ("all", "'catch_up', '1 min'", 100, 100),
];

/// The fire times of a schedule that made runs in the one transaction that was the first after the outage.
const FIRST_PASS: &str = "
    with f as (
        select f.fire_at, f.run_id, f.decided_at, f.xmin as pass
        from watchbell.fires f join watchbell.schedules s on s.id = f.schedule_id
        where s.name = $1 and f.decided_at > now() - interval '30 min'
    )
    select fire_at from f where run_id is not null and pass = (select pass from f order by decided_at limit 1)";

#[tokio::test]
async fn an_hours_outage_of_each_second_brings_one_run_or_none_or_a_hundred() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    // an hour ago they were written and planned; then every worker was gone
    let zero = second(pool).await - TimeDelta::hours(1);
    let mut past = scene::engine_session(&database).await;
    scene::set_clock(&mut past, zero).await;
    sqlx::query("set client_min_messages = error").execute(&mut past).await.unwrap();
    for (name, values, ..) in POLICIES {
        for (kind, spec) in [("cron", "'* * * * * *'"), ("fixed_rate", "'1 s'")] {
            let insert = format!(
                "insert into watchbell.schedules (name, handler, payload, {kind}, misfire, misfire_grace) \
                 values ('{name}.{kind}', 'work', '{{\"ms\": 0}}', {spec}, {values})"
            );
            sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&mut past).await.unwrap();
        }
    }
    assert_eq!(fire(&mut past, 100, Some(zero)).await.unwrap().schedules, 8);
    let _fleet = three(&database, &journal).await;
    until_true(pool, "select count(*) >= 40 from watchbell.fires where disposition = 'run'", SOON).await;
    psql(pool, "update watchbell.schedules set paused_at = clock_timestamp()").await;
    until_true(pool, "not exists (select from watchbell.runs_live)", SOON).await;

    let all = accounted(pool).await;
    let started = first_starts(&journal);
    for (name, _, least, most) in POLICIES {
        for kind in ["cron", "fixed_rate"] {
            let name = format!("{name}.{kind}");
            let slots: Vec<_> = all.iter().filter(|(of, ..)| *of == name).map(|(_, at, _)| *at).collect();
            assert_eq!(slots, seconds_after(zero, slots.len() as i64), "{name}: every slot once");
            assert!(slots.len() > 3600, "{name}: {} slots", slots.len());
            let made: Vec<DateTime<Utc>> = sqlx::query_scalar(FIRST_PASS).bind(&name).fetch_all(pool).await.unwrap();
            assert!((least..=most).contains(&made.len()), "{name}: {} runs", made.len());
            assert!(made.iter().all(|at| started.contains_key(&(name.clone(), *at))), "{name}: one did not start");
        }
    }
    assert!(started.values().all(|count| *count == 1), "each once");
}

#[tokio::test]
async fn the_first_pass_after_an_hours_outage_takes_less_than_a_tenth_of_a_second() {
    let mut scene = Scene::new().await;
    for n in 0..8 {
        scene.schedule(&format!("s{n}"), "cron, misfire", "'* * * * * *', 'catch_up'").await;
    }
    scene.fire().await;
    scene.advance(TimeDelta::hours(1)).await;
    let mut took = vec![];
    for _ in 0..8 {
        let (began, now) = (Instant::now(), scene.now());
        let fired = fire(&mut scene.sql, 1, Some(now)).await.unwrap();
        took.push(began.elapsed());
        assert_eq!((fired.schedules, fired.runs), (1, 100));
    }
    // what a pass costs that has one slot of each to decide, on a machine as busy as this one is now
    scene.advance(TimeDelta::seconds(1)).await;
    let mut ordinary = vec![];
    for _ in 0..8 {
        let (began, now) = (Instant::now(), scene.now());
        assert_eq!(fire(&mut scene.sql, 1, Some(now)).await.unwrap().schedules, 1);
        ordinary.push(began.elapsed());
    }
    let (took, ordinary) = (took.iter().min().unwrap(), ordinary.iter().min().unwrap());
    println!("{took:?} after the outage, {ordinary:?} otherwise");
    assert!(took.as_millis() < 100 || *took < *ordinary * 20, "{took:?}, an ordinary pass {ordinary:?}");
}

#[tokio::test]
async fn a_fixed_rate_has_no_drift_over_ten_thousand_slots() {
    const SLOTS: i64 = 10_000;
    let mut scene = Scene::new().await;
    let id = scene.schedule("beat", "fixed_rate, overlap", "'7 s', 'skip'").await;
    scene.fire().await;
    let start = scene.now();
    // three sessions fire in turn, up to 80 slots and 7 s late each time
    let mut sessions = vec![];
    for _ in 0..3 {
        sessions.push(scene.connect().await);
    }
    let mut random = fastrand::Rng::with_seed(11);
    let (mut slot, mut pass) = (0, 0);
    while slot < SLOTS {
        slot = SLOTS.min(slot + random.i64(1..80));
        let now = start + TimeDelta::seconds(7 * slot) + TimeDelta::milliseconds(random.i64(0..7000));
        assert_eq!(fire(&mut sessions[pass % 3], 10, Some(now)).await.unwrap().schedules, 1, "slot {slot}");
        pass += 1;
    }
    let spelt_out = "select slot from watchbell.fires f, \
                     generate_series(f.fire_at, coalesce(f.until, f.fire_at), interval '7 s') slot \
                     where schedule_id = ";
    let seen: Vec<DateTime<Utc>> = scene.values(format!("{spelt_out}{id} order by 1")).await;
    let expected: Vec<_> = (1..=SLOTS).map(|n| start + TimeDelta::seconds(7 * n)).collect();
    assert!(seen == expected, "{} slots, the last at {:?}", seen.len(), seen.last());
    println!("{SLOTS} slots in {pass} passes");
}

#[tokio::test]
async fn edits_while_three_workers_fire_never_fire_a_slot_again() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let _fleet = three(&database, &journal).await;
    psql(
        pool,
        "insert into watchbell.schedules (name, handler, payload, cron, misfire) \
         select 's' || i, 'work', '{\"ms\": 0}', '* * * * * *', 'catch_up' from generate_series(1, 20) i",
    )
    .await;
    until_true(pool, "select count(*) >= 20 from watchbell.fires", SOON).await;
    let edits = [
        "cron = null, fixed_rate = '1 s'",
        "payload = '{\"ms\": 1}'",
        "fixed_rate = '2 s'",
        "misfire = 'fire_once'",
        "fixed_rate = null, cron = '*/2 * * * * *'",
        "cron = '* * * * * *', misfire = 'catch_up'",
        "timezone = 'Asia/Tokyo'",
        "starts_at = created_at - interval '1 hour'",
        "starts_at = null, timezone = 'UTC'",
    ];
    for round in 0..4 {
        for (n, edit) in edits.iter().enumerate() {
            psql(pool, &format!("update watchbell.schedules set {edit} where id % 2 = {}", (round + n) % 2)).await;
            psql(pool, &format!("update watchbell.schedules set {edit} where id % 2 <> {}", (round + n) % 2)).await;
            tokio::time::sleep(std::time::Duration::from_millis(80)).await; // fire times pass between edits
        }
    }
    psql(pool, "update watchbell.schedules set paused_at = clock_timestamp()").await;
    until_true(pool, "not exists (select from watchbell.runs_live)", SOON).await;
    let started = first_starts(&journal);
    assert!(started.len() > 60, "{} fire times are too few to say something", started.len());
    assert!(started.values().all(|count| *count == 1), "a fire time started twice: {started:?}");
    // whatever was edited, a schedule goes on from its last fire time
    let back: Vec<String> = sqlx::query_scalar(
        "select format('%s after %s', fire_at, before) from (select fire_at, decided_at, lag(coalesce(until, fire_at)) \
             over (partition by schedule_id order by decided_at, fire_at) as before from watchbell.fires) f \
         where fire_at <= before",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(back.is_empty(), "{back:?}");
    let early: BTreeSet<_> =
        by_schedule(&journal).into_values().flatten().filter(|(at, e)| e.wall < *at).map(|(at, _)| at).collect();
    assert!(early.is_empty(), "before their time: {early:?}");
}

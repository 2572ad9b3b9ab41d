//! Fixed delays under three worker processes of which one is killed: one run at a time, counted from its true end.

use chrono::{DateTime, TimeDelta, Utc};

use crate::support::Database;
use crate::support::ask::one;
use crate::support::fleet::{SOON, by_schedule, psql, three};
use crate::support::journal::Journal;
use crate::support::wait::until_true;

#[tokio::test]
async fn fixed_delays_take_turns_and_count_from_the_true_end_though_a_worker_is_killed() {
    const DELAY: TimeDelta = TimeDelta::seconds(1);
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let mut fleet = three(&database, &journal).await;
    // some end well, some after a retry, some as failed: whatever the end, the next counts from it
    psql(
        pool,
        "insert into watchbell.schedules (name, handler, payload, retry, max_attempts, fixed_delay, first_fire) \
         select 's' || i, 'fail', jsonb_build_object('ms', 150, 'times', i % 3), \
                '{\"strategy\": \"fixed\", \"base\": \"100ms\", \"jitter\": false}', 2, '1 s', 'at_once' \
         from generate_series(1, 30) i",
    )
    .await;
    until_true(pool, "select min(fires_count) >= 2 from watchbell.schedules", SOON).await;
    let at_work = |pid| {
        format!(
            "exists (select from watchbell.runs_live r join watchbell.workers w on w.id = r.claimed_by \
             where w.pid = {pid} and r.status = 'running')"
        )
    };
    until_true(pool, &at_work(fleet[2].pid()), SOON).await;
    fleet[2].kill();
    until_true(pool, "exists (select from watchbell.workers where state = 'dead')", SOON).await;
    let more = format!(
        "select min(fires_count) >= {} from watchbell.schedules",
        one::<i64>(pool, "select max(fires_count) + 1 from watchbell.schedules").await
    );
    until_true(pool, &more, SOON).await;
    psql(pool, "update watchbell.schedules set paused_at = clock_timestamp()").await;
    until_true(pool, "not exists (select from watchbell.runs_live)", SOON).await;

    let crashed: i64 = one(pool, "select count(*) from watchbell.runs_finished where crashes > 0").await;
    assert!(crashed > 0, "nobody's run was cut off");
    type Run = (String, DateTime<Utc>, DateTime<Utc>);
    let runs: Vec<Run> = sqlx::query_as(
        "select schedule_name, fire_at, finished_at from watchbell.runs_finished order by schedule_name, fire_at",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    for pair in runs.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert_eq!((pair[1].1 - pair[0].2).num_milliseconds(), DELAY.num_milliseconds(), "{pair:?}");
    }
    // the same from outside: what the handlers noted, by the clock of this machine, which is the database's too
    for (name, noted) in by_schedule(&journal) {
        for pair in noted.windows(2) {
            let [(slot, before), (next, after)] = pair else { unreachable!() };
            let same_run = before.run == after.run;
            assert!(same_run || (slot < next && *next >= before.wall + DELAY), "{name}: {before:?} {after:?}");
            let begins = after.event == "start";
            assert!(begins || (same_run && before.event == "start"), "{name}: {before:?} {after:?}");
        }
    }
}

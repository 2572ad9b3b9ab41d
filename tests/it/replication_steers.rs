//! People steer schedules while three worker processes fire them: run now, pause, skip, delete.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::support::Database;
use crate::support::ask::one;
use crate::support::fleet::{SOON, first_starts, psql, three};
use crate::support::journal::Journal;
use crate::support::wait::until_true;

/// Twenty schedules of each second that are at work.
async fn twenty(database: &Database, ms: u32, columns: &str, values: &str) {
    psql(
        &database.pool,
        &format!(
            "insert into watchbell.schedules (name, handler, payload, misfire, {columns}) \
             select 's' || i, 'work', '{{\"ms\": {ms}}}', 'catch_up', {values} from generate_series(1, 20) i"
        ),
    )
    .await;
    let at_work = "select count(distinct schedule_id) = 20 from watchbell.fires";
    until_true(&database.pool, at_work, SOON).await;
}

/// Nothing is due any more, and what was begun has ended.
async fn rest(database: &Database) {
    psql(&database.pool, "update watchbell.schedules set paused_at = clock_timestamp()").await;
    until_true(&database.pool, "not exists (select from watchbell.runs_live)", SOON).await;
}

async fn now(connection: &mut PgConnection) -> DateTime<Utc> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn runs_asked_for_now_come_beside_every_fire_time_and_change_none() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let _fleet = three(&database, &journal).await;
    twenty(&database, 0, "fixed_rate, overlap", "'1 s', 'queue_all'").await;
    let mut people = tokio::task::JoinSet::new();
    for person in 0..2 {
        let mut session = database.connect().await;
        people.spawn(async move {
            let mut asked = vec![];
            for n in 0..60 {
                let run: i64 = sqlx::query_scalar("select watchbell.run_now('s' || $1)")
                    .bind((n + person) % 20 + 1)
                    .fetch_one(&mut session)
                    .await
                    .unwrap();
                asked.push(run);
            }
            asked
        });
    }
    let asked: BTreeSet<i64> = people.join_all().await.into_iter().flatten().collect();
    assert_eq!(asked.len(), 120, "a run for each call");
    until_true(pool, "select min(fires_count) >= 3 from watchbell.schedules", SOON).await;
    rest(&database).await;
    let mut started: BTreeMap<i64, u32> = BTreeMap::new();
    for entry in journal.entries().into_iter().filter(|e| e.event == "start") {
        *started.entry(entry.run).or_default() += 1;
    }
    assert!(started.values().all(|count| *count == 1), "{started:?}");
    assert!(asked.iter().all(|run| started.contains_key(run)), "each was started");
    assert_eq!(first_starts(&journal).len() + asked.len(), started.len(), "the others are of fire times");
    let holes: i64 = one(
        pool,
        "select count(*) from (select fire_at - lag(fire_at) over (partition by schedule_id order by fire_at) as gap \
         from watchbell.fires) f where gap <> interval '1 s'",
    )
    .await;
    assert_eq!(holes, 0, "no fire time was moved or left out");
}

#[tokio::test]
async fn nothing_fires_between_a_pause_and_its_end() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let _fleet = three(&database, &journal).await;
    twenty(&database, 0, "cron", "'* * * * * *'").await;
    let mut people = tokio::task::JoinSet::new();
    for person in 0..4 {
        let mut session = database.connect().await;
        let mut random = fastrand::Rng::with_seed(person);
        people.spawn(async move {
            let mut pauses = vec![];
            for _ in 0..6 {
                // five schedules of his own for each person
                let name = format!("s{}", person * 5 + random.u64(1..=5));
                sqlx::query("select watchbell.pause($1)").bind(&name).execute(&mut session).await.unwrap();
                let from = now(&mut session).await;
                sqlx::query("select pg_sleep($1)").bind(random.f64()).execute(&mut session).await.unwrap();
                let to = now(&mut session).await;
                sqlx::query("select watchbell.resume($1)").bind(&name).execute(&mut session).await.unwrap();
                pauses.push((name, from, to));
            }
            pauses
        });
    }
    let pauses: Vec<_> = people.join_all().await.into_iter().flatten().collect();
    rest(&database).await;
    type Fire = (String, DateTime<Utc>, DateTime<Utc>);
    let fires: Vec<Fire> = sqlx::query_as(
        "select s.name, f.fire_at, f.decided_at from watchbell.fires f join watchbell.schedules s on s.id = f.schedule_id",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    for (name, from, to) in &pauses {
        let within = fires.iter().find(|(of, _, decided)| of == name && from < decided && decided < to);
        assert_eq!(within, None, "decided while paused from {from} to {to}");
        let dropped = fires.iter().find(|(of, at, decided)| of == name && from < at && at < to && decided > to);
        assert_eq!(dropped, None, "a fire time of the pause was made up for");
    }
    assert!(first_starts(&journal).values().all(|count| *count == 1));
    let passed = pauses.iter().filter(|(_, from, to)| from.timestamp() != to.timestamp()).count();
    assert!(passed > 5, "{passed} pauses held back a fire time");
}

#[tokio::test]
async fn two_people_who_skip_at_once_skip_two_fire_times() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let _fleet = three(&database, &journal).await;
    twenty(&database, 0, "fixed_rate", "'1 s'").await;
    let mut people = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let mut session = database.connect().await;
        people.spawn(async move {
            let mut skipped = vec![];
            for n in 1..=20 {
                let name = format!("s{n}");
                let skip = sqlx::query_scalar("select watchbell.skip_next($1)").bind(&name);
                let at: DateTime<Utc> = skip.fetch_one(&mut session).await.unwrap();
                skipped.push((name, at));
            }
            skipped
        });
    }
    let skipped: Vec<_> = people.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<_> = skipped.iter().cloned().collect();
    assert_eq!(distinct.len(), 40, "each call its own: {skipped:?}");
    until_true(
        pool,
        "select min(last_fire_at) > (select max(fire_at) from watchbell.fires where disposition = 'skipped_by_request') \
         from watchbell.schedules",
        SOON,
    )
    .await;
    rest(&database).await;
    let started = first_starts(&journal);
    assert!(distinct.iter().all(|fire| !started.contains_key(fire)), "one that was skipped started");
    assert!(started.values().all(|count| *count == 1));
    type Row = (String, DateTime<Utc>);
    let fires: Vec<Row> = sqlx::query_as(
        "select s.name, f.fire_at from watchbell.fires f join watchbell.schedules s on s.id = f.schedule_id \
         order by s.name, f.fire_at",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    for pair in fires.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert_eq!((pair[1].1 - pair[0].1).num_milliseconds(), 1000, "a hole: {pair:?}");
    }
}

#[tokio::test]
async fn a_schedule_deleted_while_it_fires_and_ends_leaves_no_run_behind() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let _fleet = three(&database, &journal).await;
    // one second has runs to end, the next one fires beside them; fixed delays are written by every end
    twenty(&database, 300, "fixed_rate, first_fire", "'1 s', 'at_once'").await;
    psql(
        pool,
        "insert into watchbell.schedules (name, handler, payload, fixed_delay, first_fire) \
         select 'd' || i, 'work', '{\"ms\": 5}', '1 s', 'at_once' from generate_series(1, 20) i",
    )
    .await;
    until_true(pool, "select count(distinct schedule_id) = 40 from watchbell.fires", SOON).await;
    let mut people = tokio::task::JoinSet::new();
    for prefix in ["s", "d"] {
        let mut session = database.connect().await;
        people.spawn(async move {
            let mut gone = vec![];
            for n in 1..=20 {
                let id: i64 = sqlx::query_scalar("select watchbell.unschedule($1)")
                    .bind(format!("{prefix}{n}"))
                    .fetch_one(&mut session)
                    .await
                    .unwrap();
                gone.push((id, now(&mut session).await));
                sqlx::query("select pg_sleep(0.06)").execute(&mut session).await.unwrap();
            }
            gone
        });
    }
    let gone: Vec<_> = people.join_all().await.into_iter().flatten().collect();
    until_true(pool, "not exists (select from watchbell.runs_live)", SOON).await;
    for (id, at) in &gone {
        let after: bool = sqlx::query_scalar(
            "select exists (select from watchbell.fires where schedule_id = $1 and decided_at > $2)",
        )
        .bind(id)
        .bind(at)
        .fetch_one(pool)
        .await
        .unwrap();
        assert!(!after, "schedule {id} fired after it was deleted");
    }
    let started = first_starts(&journal);
    assert!(started.values().all(|count| *count == 1));
    let mismatch: i64 = one(
        pool,
        "select count(*) from watchbell.fires f full join watchbell.runs_finished r \
         on r.schedule_id = f.schedule_id and r.fire_at = f.fire_at and r.status = 'normal' \
         where f.run_id is distinct from r.id",
    )
    .await;
    assert_eq!(mismatch, 0, "a run with its end for each fire time that acted");
    assert_eq!(one::<i64>(pool, "select count(*) from watchbell.fires").await, started.len() as i64);
}

//! Leased rows under workers that are killed, stopped and crash, and under owners who change and lock them: each is
//! started at least once, ends once, and nothing deadlocks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinSet;
use watchbell::lifecycle::finish::Finished;
use watchbell::lifecycle::leased::{Became, Cursor, RowClaim, claim, finish};
use watchbell::run::transition::{Event, decide};
use watchbell::watch::{Plan, read};
use watchbell::{Context, Registry};

use crate::support::ask::one;
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::{until, until_true};
use crate::support::{Database, Scene};

const PATIENCE: Duration = Duration::from_secs(180);

const ONE_STEP: &str = r#"[{"from": "pending", "via": "working", "to": "normal", "handler": "host"}]"#;
const TWO_STEPS: &str = r#"[{"from": "pending", "via": "preparing", "to": "ready", "handler": "host"},
                            {"from": "ready", "via": "working", "to": "normal", "handler": "host"}]"#;

/// A table of pending rows and a watch of these steps, whose handler takes so long at the first attempt.
async fn hosts(rows: u32, steps: &str, ms: u32) -> Database {
    let database = Database::fresh().await;
    let table = format!(
        r#"create table hosts (id bigint primary key, status text not null default 'pending', note text) with (fillfactor = 70);
           create index on hosts (id) where status = 'pending';
           create index on hosts (id) where status = 'ready';
           insert into hosts (id) select generate_series(1, {rows});
           analyze hosts;
           insert into watchbell.watches (name, table_name, payload, poll_interval, retry, transitions)
           values ('hosts', 'public.hosts', '{{"ms": {ms}}}', '200 ms', '{{"strategy": "fixed", "base": "10ms"}}', '{steps}')"#
    );
    sqlx::raw_sql(AssertSqlSafe(table)).execute(&database.pool).await.unwrap();
    database
}

async fn start(database: &Database, journal: &Journal, name: &str, lease: u64) -> Process {
    let orders = Orders { lease: Duration::from_secs(lease), ..Orders::new(&database.url, journal, name) };
    let process = Process::start(&orders);
    let pid = process.pid();
    let there = format!("exists (select from watchbell.workers where pid = {pid} and state = 'running' and presence)");
    until_true(&database.pool, &there, PATIENCE).await;
    process
}

async fn until_all(pool: &PgPool, state: &str) {
    until_true(pool, &format!("not exists (select from hosts where status <> '{state}')"), PATIENCE).await;
}

/// So many handlers of the process have noted that they started.
async fn until_started(journal: &Journal, pid: u32, count: usize) {
    until("handlers start", PATIENCE, async || {
        let starts = journal.entries().into_iter().filter(|e| e.event == "start" && e.pid == pid).count();
        (starts >= count).then_some(())
    })
    .await;
}

async fn deadlocks(pool: &PgPool) -> i64 {
    one(pool, "select deadlocks from pg_stat_database where datname = current_database()").await
}

/// How many rows are worked by processes that are killed.
const ROWS: u32 = 20_000;
/// How many rows are claimed and ended at once by six sessions.
const MANY: u32 = 100_000;

#[tokio::test]
async fn every_row_starts_at_least_once_and_ends_once_though_workers_are_killed() {
    let database = hosts(ROWS, TWO_STEPS, 0).await;
    let pool = &database.pool;
    let journal = Journal::new();
    let mut victim = start(&database, &journal, "victim", 15).await;
    let _others = [start(&database, &journal, "a", 15).await, start(&database, &journal, "b", 15).await];
    let normal = "(select count(*) from hosts where status = 'normal')";
    until_true(pool, &format!("{normal} > {}", ROWS / 20), PATIENCE).await;
    victim.kill();
    let mut victim = start(&database, &journal, "next victim", 15).await;
    until_true(pool, &format!("{normal} > {}", ROWS / 2), PATIENCE).await;
    victim.kill();
    until_all(pool, "normal").await;
    let done: Vec<i64> =
        sqlx::query_scalar("select sum(done)::bigint from watchbell.watch_totals group by step order by step")
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(done, [i64::from(ROWS); 2], "each step accepted one end of each row");
    let starts = journal.entries().into_iter().filter(|e| e.event == "start");
    let (passages, starts) = starts.fold((HashSet::new(), 0), |(mut passages, starts), entry| {
        passages.insert(entry.run);
        (passages, starts + 1)
    });
    assert_eq!(passages.len(), 2 * ROWS as usize, "every row started at each step");
    println!("{starts} starts of {} passages", passages.len());
    assert_eq!(one::<i64>(pool, "select count(*) from watchbell.watch_claims").await, 0);
    assert_eq!(deadlocks(pool).await, 0);
}

#[tokio::test]
async fn a_killed_workers_rows_go_on_at_the_step_where_they_stood() {
    let database = hosts(3, TWO_STEPS, 60_000).await;
    let pool = &database.pool;
    let journal = Journal::new();
    for (via, next) in [("preparing", "ready"), ("working", "normal")] {
        let mut victim = start(&database, &journal, "victim", 15).await;
        until_started(&journal, victim.pid(), 3).await;
        until_all(pool, via).await;
        victim.kill();
        if next == "ready" {
            // whoever comes next takes the second attempt, which is short, and then the next step, which is long
            continue;
        }
        let _heir = start(&database, &journal, "heir", 15).await;
        until_all(pool, next).await;
    }
    let crashes = "select array_agg(step || ' ' || kind || ' ' || n order by step) \
                   from (select step, kind, count(*) n from watchbell.watch_errors group by 1, 2) x";
    assert_eq!(one::<Vec<String>>(pool, crashes).await, ["pending crashed 3", "ready crashed 3"]);
    let fences: Vec<(i32, i64)> = journal.entries().into_iter().map(|e| (e.attempt, e.fence)).collect();
    assert!(fences.iter().all(|(attempt, fence)| i64::from(*attempt) == *fence), "{fences:?}");
}

#[tokio::test]
async fn a_zombies_late_end_is_refused() {
    let database = hosts(2, ONE_STEP, 60_000).await;
    let pool = &database.pool;
    let journal = Journal::new();
    let zombie = start(&database, &journal, "zombie", 2).await;
    until_started(&journal, zombie.pid(), 2).await;
    zombie.send(Signal::SIGSTOP);
    let _heir = start(&database, &journal, "heir", 2).await;
    until_all(pool, "normal").await;
    zombie.send(Signal::SIGCONT);
    let pid = zombie.pid();
    let anew =
        format!("(select count(*) from watchbell.workers where pid = {pid} and state = 'running' and presence) = 1");
    until_true(pool, &anew, PATIENCE).await;
    until("its handlers are stopped", PATIENCE, async || {
        let stops = journal.entries().into_iter().filter(|e| e.event == "stop" && e.pid == pid).count();
        (stops == 2).then_some(())
    })
    .await;
    let counted = "select array[sum(done), sum(failed), sum(changed)]::bigint[] from watchbell.watch_totals";
    assert_eq!(one::<Vec<i64>>(pool, counted).await, [2, 0, 0]);
}

#[tokio::test]
async fn a_row_that_kills_its_workers_is_given_up_at_the_third_and_others_go_on() {
    let database = hosts(0, ONE_STEP, 0).await;
    let pool = &database.pool;
    let journal = Journal::new();
    let poison = "create table poison (id int primary key, status text default 'pending');
        insert into poison values (1);
        insert into watchbell.watches (name, table_name, handler, via_state, max_attempts, poll_interval)
        values ('poison', 'public.poison', 'crash', 'working', 20, '100 ms');";
    sqlx::raw_sql(poison).execute(pool).await.unwrap();
    let mut started = 0;
    while one::<String>(pool, "select status from poison").await != "failed" {
        started += 1;
        assert!(started <= 5, "it goes on killing");
        let mut victim = Process::start(&Orders::new(&database.url, &journal, &format!("victim {started}")));
        until("it crashes, or gives the row up", PATIENCE, async || {
            let given_up = one::<String>(pool, "select status from poison").await == "failed";
            (victim.ended().is_some() || given_up).then_some(())
        })
        .await;
        if started == 1 {
            sqlx::query("insert into hosts (id) select generate_series(1, 50)").execute(pool).await.unwrap();
        }
    }
    assert_eq!(started, 4, "the fourth finds it guilty");
    let _worker = start(&database, &journal, "next", 15).await;
    until_all(pool, "normal").await;
    let said = "select message from watchbell.watch_errors where step = 'pending' and kind = 'crashed' \
                and watch_id = (select id from watchbell.watches where name = 'poison') order by attempt desc limit 1";
    assert_eq!(one::<String>(pool, said).await, "its worker died, 3 times now");
}

/// Six connections claim and end rows in batches of a hundred while owners change, delete and lock them.
#[tokio::test]
async fn nothing_deadlocks_at_six_connections_while_owners_change_their_rows() {
    let mut scene = Scene::new().await;
    let table = "create table hosts (id bigint primary key, status text not null default 'pending', note text) with (fillfactor = 70);
         create index on hosts (id) where status = 'pending';
         insert into watchbell.watches (name, table_name, handler, via_state) values ('hosts', 'public.hosts', 'work', 'working')";
    scene.psql(table).await;
    scene.psql(format!("insert into hosts (id) select generate_series(1, {})", MANY)).await;
    scene.psql("analyze hosts; update watchbell.workers set lease_until = 'infinity'").await;
    let id = scene.value("select id from watchbell.watches").await;
    let watch = read::read(&mut scene.sql, id).await.unwrap().expect("the watch is there");
    let registry = Registry::new().handler("work", async |_: Context| {});
    let plan = Arc::new(Plan::of(&mut scene.sql, watch, &registry).await.unwrap());

    // one owner: two would deadlock with one another
    let pool = scene.database.pool.clone();
    let owner = tokio::spawn(async move {
        loop {
            let change = match fastrand::u32(..3) {
                0 => "update hosts set note = 'seen' where id = any ($1)",
                1 => "update hosts set status = 'retired' where id = any ($1)",
                _ => "delete from hosts where id = any ($1[1:2])",
            };
            let ids: Vec<i64> = (0..5).map(|_| fastrand::i64(1..=i64::from(MANY))).collect();
            sqlx::query(change).bind(ids).execute(&pool).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    });
    let began = std::time::Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..6 {
        let worker = scene.worker(&format!("w{n}"), &["work"]).await.id();
        let (plan, mut sql) = (Arc::clone(&plan), scene.connect().await);
        tasks.spawn(async move {
            let (mut cursor, mut held, mut count) = (Cursor::default(), vec![], 0);
            loop {
                let claims = claim(&mut sql, &plan, 0, worker, 100, &mut cursor).await.unwrap();
                let mut ends = std::mem::take(&mut held);
                for row in &claims.rows {
                    let event = if row.id % 50 == 0 && row.fence == 1 { Event::GivenBack } else { Event::Succeeded };
                    ends.push(Finished::of(row, Duration::ZERO, decide(row.standing(), event, &Default::default())));
                }
                if ends.is_empty() {
                    // what the owner has locked just now is passed over, and comes later
                    let over = "select not exists (select from hosts where status in ('pending', 'working'))";
                    if sqlx::query_scalar(over).fetch_one(&mut sql).await.unwrap() {
                        return count;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                let batch: Vec<(&RowClaim, &Finished)> = ends.iter().map(|f| (&**f.row.as_ref().unwrap(), f)).collect();
                if let Some((first, _)) = batch.first() {
                    let became = finish(&mut sql, first.planned(), &batch).await.unwrap();
                    count += became.iter().filter(|became| **became == Became::Moved).count();
                    held = ends.into_iter().zip(became).filter(|(_, b)| *b == Became::Held).map(|(f, _)| f).collect();
                }
            }
        });
    }
    let mut moved = 0;
    while let Some(count) = tasks.join_next().await {
        moved += count.unwrap();
    }
    let took = began.elapsed();
    assert!(!owner.is_finished(), "no change of the owner's fails");
    owner.abort();
    println!("{moved} ends in {took:?}: {:.0} rows/s", moved as f64 / took.as_secs_f64());
    let left: i64 = scene.value("select count(*) from hosts where status in ('pending', 'working')").await;
    assert_eq!(left, 0);
    let claims: i64 = scene.value("select count(*) from watchbell.watch_claims where claimed_by is not null").await;
    assert_eq!(claims, 0, "no claim is left behind");
    assert_eq!(deadlocks(&scene.database.pool).await, 0);
}

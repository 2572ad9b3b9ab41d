//! Workers that are killed, stopped, crashed and cut off: nothing is lost, nothing ends twice.
//!
//! Two sources outside the database say what happened: the journal that handlers write, and the test itself.

use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::PgPool;
use tokio::time::Instant;
use watchbell::embedded::Halt;

use crate::support::ask::{errors, insert, one, row, until_status};
use crate::support::crew::{Running, hand, start};
use crate::support::database::install;
use crate::support::journal::{Entry, Journal};
use crate::support::process::{Orders, Process};
use crate::support::wait::{until, until_true};
use crate::support::{Database, private_server};

const SOON: Duration = Duration::from_secs(30);

/// A promise of 3 s, on a machine that is busy with other tests.
const TAKEOVER_MAX: Duration = Duration::from_secs(8);

async fn crew(pool: &PgPool, orders: &[&Orders]) -> Vec<Running> {
    let crew = orders.iter().map(|orders| start(orders.worker())).collect();
    let there =
        format!("select count(*) = {} from watchbell.workers where state = 'running' and presence", orders.len());
    until_true(pool, &there, SOON).await;
    crew
}

/// Every run has ended once, and every start that the journal saw has an attempt in the database.
async fn nothing_is_amiss(pool: &PgPool, journal: &Journal) {
    let twice: i64 =
        one(pool, "select count(*) from (select id from watchbell.runs group by id having count(*) > 1) x").await;
    assert_eq!(twice, 0, "runs that are there twice");
    for Entry { run, attempt, fence, .. } in journal.entries().into_iter().filter(|e| e.event == "start") {
        let kept = row(pool, run).await;
        assert!(kept.attempt >= attempt && kept.fence >= fence, "run {run} started outside the database only");
    }
}

/// A worker process that alone takes what [`occupy_victim`] inserts.
async fn victim(orders: &Orders, pool: &PgPool) -> Process {
    let victim = Process::start(&Orders { labels: vec!["victim=yes".to_owned()], ..orders.clone() });
    let pid = victim.pid();
    let there = format!("exists (select from watchbell.workers where pid = {pid} and state = 'running' and presence)");
    until_true(pool, &there, SOON).await;
    victim
}

/// Runs whose first attempt lasts a minute and is the victim's; any worker may have the next.
async fn occupy_victim(pool: &PgPool, handler: &str, count: usize) -> Vec<i64> {
    let only_it = [("payload", "'{\"ms\": 60000}'"), ("target", "'victim=yes'")];
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(insert(pool, handler, &only_it).await);
    }
    for run in &runs {
        until_status(pool, *run, "running", SOON).await;
    }
    let free = "update watchbell.runs_live set target = null where id = any ($1)";
    sqlx::query(free).bind(&runs).execute(pool).await.unwrap();
    runs
}

/// How often to kill, from the environment; 3 in the ordinary run of the tests.
fn kills() -> usize {
    std::env::var("WATCHBELL_TEST_KILLS").ok().map_or(3, |n| n.parse().expect("a number of kills"))
}

#[tokio::test]
async fn a_killed_workers_runs_start_again_elsewhere_within_three_seconds() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let heir = Orders::new(&database.url, &journal, "heir");
    let heirs = crew(pool, &[&heir]).await;
    // the heir may judge once its own session has stood for `settle` and three heartbeats were on time
    until_true(pool, "select now() - min(started_at) > '4 s' from watchbell.workers", SOON).await;

    let mut table = String::from("kill  seen dead  started again\n");
    let mut took = Vec::new();
    for kill in 1..=kills() {
        let mut victim = victim(&Orders::new(&database.url, &journal, &format!("victim {kill}")), pool).await;
        let pid = victim.pid();
        let runs = occupy_victim(pool, "work", 3).await;
        let killed = Instant::now();
        victim.kill();
        let dead = format!("select exists (select from watchbell.workers where pid = {pid} and state = 'dead')");
        until_true(pool, &dead, SOON).await;
        let seen = killed.elapsed();
        until("all start again", SOON, async || runs.iter().all(|run| journal.starts(*run) == [1, 2]).then_some(()))
            .await;
        let again = killed.elapsed();
        table += &format!("{kill:>4}  {:>7.2} s  {:>11.2} s\n", seen.as_secs_f64(), again.as_secs_f64());
        took.push(again);
        for run in runs {
            let run = until_status(pool, run, "normal", SOON).await;
            assert_eq!((run.attempt, run.fence, run.crashes), (2, 2, 1));
            assert_eq!(errors(pool, run.id.0).await, [(1, "crashed".to_owned(), "its worker died".to_owned())]);
        }
    }
    println!("{table}");
    assert!(took.iter().all(|took| *took < TAKEOVER_MAX), "{took:?}");
    nothing_is_amiss(pool, &journal).await;
    for heir in heirs {
        heir.stop().await;
    }
}

#[tokio::test]
async fn a_zombies_late_end_is_refused_and_it_works_on_under_a_new_number() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let lease = Duration::from_secs(2);
    let heir = Orders { lease, ..Orders::new(&database.url, &journal, "heir") };
    let heirs = crew(pool, &[&heir]).await;
    let zombie = victim(&Orders { lease, ..Orders::new(&database.url, &journal, "zombie") }, pool).await;
    let runs = occupy_victim(pool, "work", 3).await;

    let stopped = Instant::now();
    zombie.send(Signal::SIGSTOP);
    for run in &runs {
        let over = until_status(pool, *run, "normal", SOON).await;
        assert_eq!((over.attempt, over.fence, over.crashes), (2, 2, 1));
    }
    println!("taken over {:?} after SIGSTOP, with a lease of {lease:?}", stopped.elapsed());
    zombie.send(Signal::SIGCONT);
    let pid = zombie.pid();
    let anew =
        format!("select count(*) = 1 from watchbell.workers where pid = {pid} and state = 'running' and presence");
    until_true(pool, &anew, SOON).await;
    let numbers: i64 = one(pool, &format!("select count(*) from watchbell.workers where pid = {pid}")).await;
    assert_eq!(numbers, 2);
    // its handlers are told, and nothing of what they say is heard
    until("its handlers are stopped", SOON, async || {
        let stops = journal.entries().into_iter().filter(|e| e.event == "stop" && e.pid == pid).count();
        (stops == runs.len()).then_some(())
    })
    .await;
    let after = insert(pool, "work", &[("payload", "'{\"ms\": 0}'"), ("target", "'victim=yes'")]).await;
    until_status(pool, after, "normal", SOON).await;
    for run in &runs {
        let over = row(pool, *run).await;
        assert_eq!((over.status.as_str(), over.attempt, over.fence), ("normal", 2, 2));
    }
    nothing_is_amiss(pool, &journal).await;
    for heir in heirs {
        heir.stop().await;
    }
}

#[tokio::test]
async fn a_transactional_effect_happens_once_though_its_worker_is_killed() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    sqlx::query("create table effects (run_id bigint, attempt integer)").execute(pool).await.unwrap();
    let journal = Journal::new();
    let heirs = crew(pool, &[&Orders::new(&database.url, &journal, "heir")]).await;
    let mut victim = victim(&Orders::new(&database.url, &journal, "victim"), pool).await;
    let runs = occupy_victim(pool, "effect", 3).await;
    until("all have started", SOON, async || runs.iter().all(|r| journal.starts(*r) == [1]).then_some(())).await;
    victim.kill();
    for run in &runs {
        until_status(pool, *run, "normal", SOON).await;
        assert_eq!(journal.starts(*run), [1, 2]);
    }
    let effects: Vec<(i64, i32)> =
        sqlx::query_as("select run_id, attempt from effects order by run_id").fetch_all(pool).await.unwrap();
    assert_eq!(effects, runs.iter().map(|run| (*run, 2)).collect::<Vec<_>>());
    nothing_is_amiss(pool, &journal).await;
    for heir in heirs {
        heir.stop().await;
    }
}

#[tokio::test]
async fn a_run_that_takes_its_process_down_is_failed_after_three_crashes() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let orders = Orders::new(&database.url, &journal, "supervised");
    let heirs = crew(pool, &[&Orders { labels: vec![], ..orders.clone() }]).await;
    let poison = insert(pool, "crash", &[("target", "'victim=yes'"), ("max_attempts", "10")]).await;
    let mut good = Vec::new();
    let mut process = victim(&orders, pool).await;
    let mut crashes = 0;
    let began = Instant::now();
    // a supervisor: whenever it dies, it is started again
    while row(pool, poison).await.status != "failed" {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", row(pool, poison).await);
        if process.ended().is_some() {
            crashes += 1;
            good.push(insert(pool, "work", &[("payload", "'{\"ms\": 0}'"), ("target", "'victim=yes'")]).await);
            process = Process::start(&Orders { labels: vec!["victim=yes".to_owned()], ..orders.clone() });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{crashes} crashes in {:?}", began.elapsed());
    let over = row(pool, poison).await;
    assert_eq!((over.crashes, over.attempt), (3, 3));
    assert_eq!(over.error.as_deref(), Some("its worker died, 3 times now"));
    assert_eq!(journal.starts(poison), [1, 2, 3]);
    for run in good {
        until_status(pool, run, "normal", SOON).await;
    }
    for heir in heirs {
        heir.stop().await;
    }
}

#[tokio::test]
async fn a_crash_of_the_server_costs_no_worker_and_no_run() {
    let Some(server) = private_server().await else { return };
    install(server.url()).await;
    let pool = &PgPool::connect(server.url()).await.unwrap();
    let journal = Journal::new();
    let orders = [1, 2, 3].map(|n| Orders::new(server.url(), &journal, &format!("worker {n}")));
    let crew = crew(pool, &orders.each_ref()).await;
    // long enough that every worker may judge every other
    until_true(pool, "select now() - min(started_at) > '4 s' from watchbell.workers", SOON).await;
    let many =
        "insert into watchbell.runs (handler, payload) select 'work', '{\"ms\": 1500}' from generate_series(1, 30)";
    sqlx::query(many).execute(pool).await.unwrap();
    until_true(pool, "select count(*) = 30 from watchbell.runs_live where status = 'running'", SOON).await;

    let backend: i32 =
        one(pool, "select pid from pg_stat_activity where application_name = 'watchbell poll' limit 1").await;
    signal_backend(backend, Signal::SIGKILL); // as a bug in the server would end it
    let crashed = Instant::now();
    until_true(pool, "select count(*) = 30 from watchbell.runs where status = 'normal'", SOON).await;
    println!("all 30 over {:?} after the crash", crashed.elapsed());
    let attempts: Option<i64> = one(pool, "select sum(attempt) from watchbell.runs").await;
    assert_eq!(attempts, Some(30));
    assert_eq!(journal.entries().iter().filter(|e| e.event == "start").count(), 30);
    until_true(
        pool,
        "select count(*) = 3 from watchbell.workers where state = 'running' and presence and lease_until > now()",
        SOON,
    )
    .await;
    let dead: i64 = one(pool, "select count(*) from watchbell.workers where state <> 'running'").await;
    assert_eq!(dead, 0, "workers declared dead");
    nothing_is_amiss(pool, &journal).await;
    for worker in crew {
        assert!(!worker.has_ended());
        worker.stop().await;
    }
}

#[tokio::test]
async fn work_resumes_within_three_seconds_of_a_servers_restart() {
    let Some(mut server) = private_server().await else { return };
    install(server.url()).await;
    let pool = &PgPool::connect(server.url()).await.unwrap();
    let journal = Journal::new();
    let lease = Duration::from_secs(2);
    let orders = [1, 2].map(|n| Orders { lease, ..Orders::new(server.url(), &journal, &format!("worker {n}")) });
    let crew = crew(pool, &orders.each_ref()).await;
    let long = insert(pool, "work", &[("payload", "'{\"ms\": 600000}'")]).await;
    until_status(pool, long, "running", SOON).await;
    let waiting = insert(pool, "work", &[("payload", "'{\"ms\": 0}'"), ("run_at", "now() + '2 s'")]).await;

    server.halt(Halt::Fast).await.unwrap();
    // longer than the lease: they must give up what they hold, though nobody can declare them dead
    until("the handler is stopped", SOON, async || journal.entries().iter().any(|e| e.event == "stop").then_some(()))
        .await;
    server.resume().await.unwrap();
    let back = Instant::now();
    until_status(pool, waiting, "normal", SOON).await;
    let resumed = back.elapsed();
    println!("work resumed {resumed:?} after the server did");
    assert!(resumed < TAKEOVER_MAX, "{resumed:?}");
    // no worker is told about the run that was given up: it must be found
    let again = until_status(pool, long, "normal", SOON).await;
    println!("what was given up was over {:?} after", back.elapsed());
    assert_eq!(again.attempt, 2);
    nothing_is_amiss(pool, &journal).await;
    for worker in crew {
        assert!(!worker.has_ended());
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_given_back() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(hand(pool, "forgetful").handler("mail", || async {}));
    until_true(pool, "select state = 'running' from watchbell.workers", SOON).await;
    // as if a claim had committed while its connection broke
    sqlx::query(
        "insert into watchbell.runs_live (handler, status, claimed_by, fence, attempt, started_at) \
         select 'mail', 'running', id, 1, 1, now() from watchbell.workers",
    )
    .execute(pool)
    .await
    .unwrap();
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'watchbell poll' and datname = current_database()")
        .execute(pool)
        .await
        .unwrap();
    until_true(
        pool,
        "select count(*) = 1 from watchbell.runs where status = 'normal' and attempt = 1 and fence = 2",
        SOON,
    )
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_whose_heartbeat_hangs_stops_its_handlers_before_its_lease_is_over() {
    let Some(server) = private_server().await else { return };
    install(server.url()).await;
    let pool = &PgPool::connect(server.url()).await.unwrap();
    let journal = Journal::new();
    let lease = Duration::from_secs(4);
    let crew = crew(pool, &[&Orders { lease, ..Orders::new(server.url(), &journal, "cut off") }]).await;
    let run = insert(pool, "work", &[("payload", "'{\"ms\": 600000}'")]).await;
    until_status(pool, run, "running", SOON).await;

    let control = "select pid from pg_stat_activity where application_name = 'watchbell control'";
    let control: i32 = one(pool, control).await;
    signal_backend(control, Signal::SIGSTOP);
    let hung = Instant::now();
    until("its handler is stopped", SOON, async || journal.entries().iter().any(|e| e.event == "stop").then_some(()))
        .await;
    let stopped = hung.elapsed();
    println!("handler stopped {stopped:?} after the heartbeat hung, with a lease of {lease:?}");
    assert!(stopped < lease + Duration::from_secs(1), "{stopped:?}");
    // its old number is over, so the run is free, and it has a new one to go on with
    let again = until_status(pool, run, "normal", SOON).await;
    assert_eq!(again.attempt, 2);
    signal_backend(control, Signal::SIGCONT);
    nothing_is_amiss(pool, &journal).await;
    for worker in crew {
        worker.stop().await;
    }
}

/// Signals the process of one session of a private server.
fn signal_backend(pid: i32, signal: Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

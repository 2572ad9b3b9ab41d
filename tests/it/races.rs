//! Many at once, and everything exactly once. Random, with the seed printed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use tokio::sync::Notify;
use watchbell::lifecycle::claim::Claimed;
use watchbell::lifecycle::finish::{Finished, finish};
use watchbell::lifecycle::fire::fire;
use watchbell::lifecycle::register::{Identity, register};
use watchbell::lifecycle::renew::renew;
use watchbell::lifecycle::rescue::orphans;
use watchbell::run::transition::Event;
use watchbell::{Context, Worker};

use crate::support::Scene;
use crate::support::scene::{self, verdict, verdicts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_ten_thousand_runs_and_each_runs_once() {
    const RUNS: usize = 10_000;
    let mut scene = Scene::new().await;
    let seen: Arc<Mutex<HashMap<i64, Vec<usize>>>> = Arc::default();
    let all = Arc::new(Notify::new());
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..2 {
        let (pool, seen, all) = (scene.database.pool.clone(), Arc::clone(&seen), Arc::clone(&all));
        let done = Arc::clone(&all);
        let handler = move |ctx: Context| {
            let (seen, all) = (Arc::clone(&seen), Arc::clone(&all));
            async move {
                tokio::time::sleep(Duration::from_millis(2)).await; // the work
                let mut seen = seen.lock().unwrap();
                seen.entry(ctx.run_id().0).or_default().push(number);
                if seen.len() == RUNS {
                    all.notify_waiters();
                }
            }
        };
        workers.spawn(async move {
            let shutdown = async move { done.notified().await };
            Worker::builder(pool).handler("mail", handler).slots(50).run(shutdown).await.unwrap();
        });
    }
    let ready = "select count(*) = 2 from watchbell.workers where state = 'running' and presence";
    while !scene.value::<bool>(ready).await {
        tokio::task::yield_now().await;
    }
    scene
        .psql(format!("insert into watchbell.runs_live (handler) select 'mail' from generate_series(1, {RUNS})"))
        .await;
    workers.join_all().await;
    let seen = seen.lock().unwrap().clone();
    let share = |number| seen.values().filter(|by| by.as_slice() == [number]).count();
    let (a, b) = (share(0), share(1));
    assert_eq!(a + b, RUNS, "each by one worker, once");
    assert!(a.min(b) * 10 >= RUNS * 4, "{a} and {b}: neither does less than 40 %");
    let ends = "select count(*) from watchbell.runs_finished where status = 'normal' and attempt = 1 and fence = 1";
    assert_eq!(scene.value::<i64>(ends).await, RUNS as i64);
}

/// Of WATCHBELL_TEST_SEED, to repeat a failure, or drawn; printed either way.
fn seed() -> u64 {
    let seed = std::env::var("WATCHBELL_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("WATCHBELL_TEST_SEED={seed}");
    seed
}

/// One worker of the mixed load, with a connection and a random stream of its own.
struct Actor {
    connection: PgConnection,
    worker: scene::Worker,
    random: fastrand::Rng,
    /// What it abandoned when it "died", to be finished late by the zombie.
    abandoned: Vec<Finished>,
    done: u64,
}

impl Actor {
    /// Works until no run is left; answers how many runs its transactions moved.
    async fn work(mut self, runs: i64) -> u64 {
        let mut idle = 0;
        while idle < 3 {
            let limit = self.random.i64(1..=100);
            let claimed = self.worker.claim(&mut self.connection, limit, None).await.unwrap();
            self.done += claimed.len() as u64;
            if self.random.u8(0..60) == 0 {
                self.die(&claimed).await;
            } else {
                let batch = claimed.iter().map(|run| verdict(run, self.event())).collect();
                self.finish(batch).await;
            }
            self.cancel_one_of(runs).await;
            if self.random.u8(0..8) == 0 || claimed.is_empty() {
                self.rescue().await;
            }
            let live: bool = sqlx::query_scalar("select exists (select from watchbell.runs_live)")
                .fetch_one(&mut self.connection)
                .await
                .unwrap();
            idle = if live { 0 } else { idle + 1 };
        }
        self.done
    }

    fn event(&mut self) -> Event {
        let at_once = Some(Duration::ZERO);
        match self.random.u8(0..100) {
            0..50 => Event::Succeeded,
            50..70 => Event::Failed { kind: "error", message: "again".to_owned(), after: at_once },
            70..75 => Event::Fatal { message: "never".to_owned() },
            75..80 => Event::Cancelled { reason: "asked".to_owned() },
            80..88 => Event::Snoozed { by: Duration::ZERO },
            _ => Event::GivenBack,
        }
    }

    async fn finish(&mut self, mut batch: Vec<Finished>) {
        while !batch.is_empty() {
            let recorded = finish(&mut self.connection, batch, None).await.unwrap();
            self.done += recorded.accepted.len() as u64;
            batch = recorded.held;
        }
    }

    /// Leaves its claims behind and comes back under another number; its old self finishes late.
    async fn die(&mut self, claimed: &[Claimed]) {
        let late = std::mem::take(&mut self.abandoned);
        self.finish(late).await;
        self.abandoned = claimed.iter().map(|run| verdict(run, Event::Succeeded)).collect();
        sqlx::query("update watchbell.workers set state = 'dead', ended_at = now() where id = $1")
            .bind(self.worker.id())
            .execute(&mut self.connection)
            .await
            .unwrap();
        self.worker.who.worker = appear(&mut self.connection).await;
    }

    async fn rescue(&mut self) {
        let lost = orphans(&mut self.connection).await.unwrap();
        self.finish(verdicts(lost)).await;
    }

    async fn cancel_one_of(&mut self, runs: i64) {
        let id = self.random.i64(1..=runs);
        let answer: String =
            sqlx::query_scalar("select watchbell.cancel($1)").bind(id).fetch_one(&mut self.connection).await.unwrap();
        self.done += u64::from(answer == "cancelled");
    }
}

/// Registers a worker by the database's own clock, with a lease that outlasts the test.
async fn appear(connection: &mut PgConnection) -> i32 {
    let lease = Duration::from_secs(3600);
    let identity = Identity {
        name: "actor".to_owned(),
        host: "scene".to_owned(),
        ip: None,
        pid: 1,
        handlers: vec!["mail".to_owned()],
        queues: None,
        labels: vec![],
        slots: 100,
        lease,
    };
    let id = register(connection, &identity, None).await.unwrap();
    renew(connection, id, lease, false, false, None, None).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_thousand_mixed_transactions_bring_each_run_to_one_end_and_no_error() {
    const RUNS: i64 = 20_000;
    let seed = seed();
    let mut scene = Scene::new().await;
    for schedule in ["a", "b", "c"] {
        scene.schedule(schedule, "run_at", "watchbell.clock()").await;
    }
    scene
        .psql("insert into watchbell.limits (key, max_running) select 'k' || i, 20 from generate_series(0, 4) i")
        .await;
    // every tenth run has a key, every other tenth a schedule
    scene
        .psql(format!(
            "insert into watchbell.runs_live (handler, priority, max_attempts, concurrency_key, schedule_id, run_at) \
             select 'mail', i % 3, 6, case i % 10 when 0 then 'k' || i / 10 % 5 end, \
                    case i % 10 when 5 then 1 + i / 10 % 3 end, now() from generate_series(1, {RUNS}) i"
        ))
        .await;
    let mut actors = tokio::task::JoinSet::new();
    for number in 0..6 {
        let mut connection = scene::engine_session(&scene.database).await;
        let mut worker = scene.worker("actor", &["mail"]).await;
        worker.who.worker = appear(&mut connection).await;
        let random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        let actor = Actor { connection, worker, random, abandoned: vec![], done: 0 };
        actors.spawn(actor.work(RUNS));
    }
    let moved: u64 = actors.join_all().await.iter().sum();
    assert!(moved >= 60_000, "{moved} moves are too few to say something");
    let ended = "select count(*) - count(distinct id) + abs(count(*) - 20000) from watchbell.runs_finished";
    assert_eq!(scene.value::<i64>(ended).await, 0);
    assert_eq!(scene.value::<i64>("select sum(running) from watchbell.limits").await, 0);
    let holes = "select count(*) from watchbell.runs_finished where attempt > max_attempts or attempt > fence";
    assert_eq!(scene.value::<i64>(holes).await, 0);
}

/// One step of somebody who has to do with fixed delays, at `now`.
async fn meddle(
    connection: &mut PgConnection,
    worker: &mut scene::Worker,
    random: &mut fastrand::Rng,
    now: DateTime<Utc>,
) {
    scene::set_clock(connection, now).await;
    match random.u8(0..10) {
        0..4 => {
            fire(connection, 5, Some(now)).await.unwrap();
        }
        4..8 => {
            let claimed = worker.claim(connection, 5, Some(now)).await.unwrap();
            let event = |fatal| if fatal { Event::Fatal { message: "never".to_owned() } } else { Event::Succeeded };
            let mut batch: Vec<_> = claimed.iter().map(|run| verdict(run, event(random.bool()))).collect();
            while !batch.is_empty() {
                batch = finish(connection, batch, Some(now)).await.unwrap().held;
            }
        }
        8 => {
            let edit = "update watchbell.schedules set fixed_delay = make_interval(secs => $1) where id = $2";
            let edit = sqlx::query(edit).bind(random.f64().mul_add(5.0, 1.0).floor()).bind(random.i64(1..=20));
            edit.execute(connection).await.unwrap();
        }
        _ => {
            let cancel = "select watchbell.cancel(r.id) from watchbell.runs_live r where r.status = 'pending' limit 1";
            sqlx::query(cancel).execute(connection).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixed_delays_neither_overlap_nor_stop_for_good_whoever_meddles() {
    let seed = seed();
    let mut scene = Scene::new().await;
    for number in 0..20 {
        scene.schedule(&format!("s{number}"), "fixed_delay", "'1 s'").await;
    }
    let start = scene.now();
    let mut people = tokio::task::JoinSet::new();
    for number in 0..4 {
        let mut connection = scene.connect().await;
        let mut worker = scene.worker("actor", &["mail"]).await;
        worker.who.worker = appear(&mut connection).await;
        scene.psql(format!("update watchbell.workers set lease_until = 'infinity' where id = {}", worker.id())).await;
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        people.spawn(async move {
            for step in 0..300 {
                meddle(&mut connection, &mut worker, &mut random, start + TimeDelta::milliseconds(step * 100)).await;
                let doubled: i64 = sqlx::query_scalar(
                    "select count(*) from (select from watchbell.runs_live group by schedule_id having count(*) > 1) d",
                )
                .fetch_one(&mut connection)
                .await
                .unwrap();
                assert_eq!(doubled, 0, "two runs of one fixed delay are open");
            }
        });
    }
    people.join_all().await;
    scene.advance(TimeDelta::seconds(31)).await;
    scene.fire().await;
    let stopped = "select count(*) from watchbell.schedules s where s.next_fire_at is null \
                   and not exists (select from watchbell.runs_live r where r.schedule_id = s.id)";
    assert_eq!(scene.value::<i64>(stopped).await, 0, "none waits for a run that is not there");
    let starts: i64 = scene.value("select count(*) from watchbell.fires where disposition = 'run'").await;
    assert!(starts > 60, "{starts} fires are too few to say something");
}

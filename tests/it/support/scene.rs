//! A database, a clock that tests set, and the engine's stages to crank by hand.
//!
//! ```text
//! let mut scene = Scene::new().await;
//! let mut a = scene.worker("a", &["mail"]).await;
//! let id = scene.enqueue("mail").await;
//! let runs = scene.claim(&mut a, 10).await;
//! scene.end(&runs[0], Event::Succeeded).await;
//! assert_eq!(scene.run(id).await.status, "normal");
//! ```
//!
//! Nothing happens by itself: no worker polls and no time passes. Workers of the scene go on beating
//! while it advances, as live ones do; [`Scene::kill`] stops one.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use watchbell::client::{self, NewRun, RunRow};
use watchbell::lifecycle::claim::{Claimant, Claimed, Lanes, Reach, claim, claim_keyed, survey};
use watchbell::lifecycle::finish::{Finished, Recorded, finish};
use watchbell::lifecycle::fire::{Fired, fire};
use watchbell::lifecycle::limited::claim_limited;
use watchbell::lifecycle::register::{Identity, register};
use watchbell::lifecycle::renew::{Hints, renew, take_presence};
use watchbell::lifecycle::rescue::{Dead, Judgement, Orphan, declare_dead, orphans};
use watchbell::retry::RetryPolicy;
use watchbell::run::RunId;
use watchbell::run::transition::{Event, decide};

use super::Database;

/// How long a worker of the scene keeps its runs without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(15);

/// A judge that may go by both.
pub const BY_ALL: Judgement = Judgement { by_presence: true, by_lease: true };
/// A judge whose own lease is unbroken.
pub const BY_LEASE: Judgement = Judgement { by_presence: false, by_lease: true };
/// A judge whose own presence has stood for a while.
pub const BY_PRESENCE: Judgement = Judgement { by_presence: true, by_lease: false };

/// A test's world.
pub struct Scene {
    pub database: Database,
    /// A session at the scene's time: what the stages use, and what a person would type.
    pub sql: PgConnection,
    now: DateTime<Utc>,
    alive: Vec<i32>,
}

/// A registered worker; what it claims with is open to change.
pub struct Worker {
    pub who: Claimant,
    pub lanes: Lanes,
    presence: Option<PgConnection>,
}

/// What tests look at of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRow {
    pub id: i64,
    pub status: String,
    pub error: Option<String>,
    pub next_fire_at: Option<DateTime<Utc>>,
    pub last_fire_at: Option<DateTime<Utc>>,
    pub last_finished_at: Option<DateTime<Utc>>,
    pub last_status: Option<String>,
    pub consecutive_failures: i32,
    pub paused_at: Option<DateTime<Utc>>,
}

impl Scene {
    /// A fresh database at noon (UTC) of the database's today, so that no test depends on the hour it runs at.
    pub async fn new() -> Self {
        let database = Database::fresh().await;
        let mut sql = engine_session(&database).await;
        let noon = "select date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' + interval '12 hours'";
        let now = sqlx::query_scalar(noon).fetch_one(&mut sql).await.unwrap();
        set_clock(&mut sql, now).await;
        Self { database, sql, now, alive: vec![] }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The clock goes on, and the hearts of the living with it. Other connections keep their time.
    pub async fn advance(&mut self, by: TimeDelta) {
        self.now += by;
        set_clock(&mut self.sql, self.now).await;
        for id in self.alive.clone() {
            self.beat(id, false).await;
        }
    }

    /// One more session of the engine, at the scene's present time.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = engine_session(&self.database).await;
        set_clock(&mut connection, self.now).await;
        connection
    }

    /// Runs what a person types into psql.
    pub async fn psql(&mut self, text: impl Into<String>) -> u64 {
        let text = text.into();
        let done = sqlx::raw_sql(AssertSqlSafe(text.clone())).execute(&mut self.sql).await;
        done.unwrap_or_else(|e| panic!("{text}: {e}")).rows_affected()
    }

    /// The one value that a query answers.
    pub async fn value<T>(&mut self, query: impl Into<String>) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let query = query.into();
        let value = sqlx::query_scalar(AssertSqlSafe(query.clone())).fetch_one(&mut self.sql).await;
        value.unwrap_or_else(|e| panic!("{query}: {e}"))
    }

    /// The values of a query's one column.
    pub async fn values<T>(&mut self, query: impl Into<String>) -> Vec<T>
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let query = query.into();
        let values = sqlx::query_scalar(AssertSqlSafe(query.clone())).fetch_all(&mut self.sql).await;
        values.unwrap_or_else(|e| panic!("{query}: {e}"))
    }

    /// A live worker with these handlers, without a presence lock.
    pub async fn worker(&mut self, name: &str, handlers: &[&str]) -> Worker {
        let handlers: Vec<String> = handlers.iter().map(|&handler| handler.to_owned()).collect();
        let identity = Identity {
            name: name.to_owned(),
            host: "scene".to_owned(),
            ip: None,
            pid: 1,
            handlers: handlers.clone(),
            queues: None,
            labels: vec![],
            slots: 100,
            lease: LEASE,
        };
        let id = register(&mut self.sql, &identity, Some(self.now)).await.unwrap();
        self.alive.push(id);
        self.beat(id, false).await.expect("a worker that has just registered lives");
        let who = Claimant { worker: id, queues: None, handlers, labels: vec![] };
        Worker { who, lanes: Lanes::default(), presence: None }
    }

    /// A live worker whose session holds its presence lock.
    pub async fn present_worker(&mut self, name: &str, handlers: &[&str]) -> Worker {
        let mut worker = self.worker(name, handlers).await;
        let mut session = self.connect().await;
        assert!(take_presence(&mut session, worker.id()).await.unwrap());
        worker.presence = Some(session);
        self.beat(worker.id(), true).await;
        worker
    }

    /// A heartbeat; None: the worker was declared dead.
    pub async fn renew(&mut self, worker: &Worker) -> Option<Hints> {
        self.beat(worker.id(), worker.presence.is_some()).await
    }

    async fn beat(&mut self, id: i32, presence: bool) -> Option<Hints> {
        // a presence once shown stays shown: advance() knows nothing of it
        let shown = "select presence from watchbell.workers where id = $1";
        let shown = sqlx::query_scalar(shown).bind(id).fetch_optional(&mut self.sql).await.unwrap().unwrap_or(false);
        renew(&mut self.sql, id, LEASE, presence || shown, false, None, Some(self.now)).await.unwrap()
    }

    /// The worker's heart stops and its presence lock is free; nobody has noticed yet.
    pub async fn kill(&mut self, worker: &mut Worker) {
        self.silence(worker);
        if let Some(session) = worker.presence.take() {
            session.close().await.unwrap();
        }
    }

    /// The worker's heart stops, but its session stands.
    pub fn silence(&mut self, worker: &Worker) {
        self.alive.retain(|&id| id != worker.id());
    }

    /// A run that is due now, to be given more before it is inserted.
    pub fn new_run(&self, handler: &str) -> NewRun {
        NewRun::new(handler).run_at(self.now)
    }

    /// Inserts a run that is due now.
    pub async fn enqueue(&mut self, handler: &str) -> i64 {
        let run = self.new_run(handler);
        self.insert(run).await
    }

    pub async fn insert(&mut self, run: NewRun) -> i64 {
        let id = run.insert(&mut self.sql).await.unwrap();
        id.expect("no other open run has its unique key").0
    }

    /// Inserts many runs that are due now: `select` gives the columns that `columns` names.
    pub async fn enqueue_many(&mut self, columns: &str, select: impl Display) -> u64 {
        self.enqueue_many_in("0", columns, select).await
    }

    /// Inserts many runs that are due so long (an interval) after now.
    pub async fn enqueue_many_in(&mut self, due_in: &str, columns: &str, select: impl Display) -> u64 {
        let due = format!("watchbell.clock() + interval '{due_in}'");
        self.psql(format!("insert into watchbell.runs_live (run_at, {columns}) select {due}, {select}")).await
    }

    pub async fn run(&mut self, id: i64) -> RunRow {
        client::run(&mut self.sql, RunId(id)).await.unwrap()
    }

    pub async fn status(&mut self, id: i64) -> String {
        self.run(id).await.status.to_string()
    }

    /// Inserts a schedule by plain SQL: columns and their values as one would type them.
    pub async fn schedule(&mut self, name: &str, columns: &str, values: &str) -> i64 {
        let insert = "insert into watchbell.schedules (name, handler, ";
        self.value(format!("{insert}{columns}) values ('{name}', 'mail', {values}) returning id")).await
    }

    pub async fn schedule_row(&mut self, id: i64) -> ScheduleRow {
        let row = sqlx::query(
            "select id, status, error, next_fire_at, last_fire_at, last_finished_at, last_status, \
                    consecutive_failures, paused_at \
             from watchbell.schedules where id = $1",
        );
        let row = row.bind(id).fetch_one(&mut self.sql).await.unwrap();
        ScheduleRow {
            id: row.get(0),
            status: row.get(1),
            error: row.get(2),
            next_fire_at: row.get(3),
            last_fire_at: row.get(4),
            last_finished_at: row.get(5),
            last_status: row.get(6),
            consecutive_failures: row.get(7),
            paused_at: row.get(8),
        }
    }

    /// Fires what is due.
    pub async fn fire(&mut self) -> Fired {
        fire(&mut self.sql, 1000, Some(self.now)).await.unwrap()
    }

    /// A thorough claim: sweeps all lanes, then the keyed runs.
    pub async fn claim(&mut self, worker: &mut Worker, limit: i64) -> Vec<Claimed> {
        worker.claim(&mut self.sql, limit, Some(self.now)).await.unwrap()
    }

    /// A quick claim, from the low-water marks on.
    pub async fn claim_quick(&mut self, worker: &mut Worker, limit: i64) -> Vec<Claimed> {
        claim(&mut self.sql, &worker.who, &mut worker.lanes, Reach::Quick, limit, Some(self.now)).await.unwrap()
    }

    /// One of the runs that there are to claim.
    pub async fn claim_one_of(&mut self, worker: &mut Worker) -> Claimed {
        self.claim(worker, 1).await.pop().expect("a run is due")
    }

    /// The one run that there is to claim.
    pub async fn claim_one(&mut self, worker: &mut Worker) -> Claimed {
        let mut runs = self.claim(worker, 2).await;
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    /// Records what happened to one run, and that it was accepted.
    pub async fn end(&mut self, run: &Claimed, event: Event) {
        let recorded = self.finish(&[(run, event)]).await;
        assert!(recorded.accepted.contains(&run.id), "run {} was not accepted: {recorded:?}", run.id);
    }

    /// Records what happened to runs.
    pub async fn finish(&mut self, ends: &[(&Claimed, Event)]) -> Recorded {
        self.record(ends.iter().map(|(run, event)| verdict(run, event.clone())).collect()).await
    }

    /// Records verdicts.
    pub async fn record(&mut self, batch: Vec<Finished>) -> Recorded {
        finish(&mut self.sql, batch, Some(self.now)).await.unwrap()
    }

    /// Declares dead whom the judge may, without taking their runs.
    pub async fn judge(&mut self, judge: &Worker, by: Judgement) -> Vec<Dead> {
        declare_dead(&mut self.sql, judge.id(), by, Some(self.now)).await.unwrap()
    }

    /// Declares the dead dead and takes their runs back.
    pub async fn rescue(&mut self, judge: &Worker) -> Recorded {
        self.judge(judge, BY_ALL).await;
        let found = orphans(&mut self.sql).await.unwrap();
        self.record(verdicts(found)).await
    }
}

impl Worker {
    pub fn id(&self) -> i32 {
        self.who.worker
    }

    /// A thorough claim on a connection of the caller's.
    pub async fn claim(
        &mut self,
        connection: &mut PgConnection,
        limit: i64,
        now: Option<DateTime<Utc>>,
    ) -> sqlx::Result<Vec<Claimed>> {
        survey(connection, &self.who, &mut self.lanes, now).await?;
        let mut runs = claim(connection, &self.who, &mut self.lanes, Reach::Sweep, limit, now).await?;
        let room = limit - i64::try_from(runs.len()).unwrap();
        if room > 0 {
            runs.extend(claim_keyed(connection, &self.who, &mut self.lanes, room, now).await?);
        }
        let room = limit - i64::try_from(runs.len()).unwrap();
        if room > 0 {
            runs.extend(claim_limited(connection, &self.who, room, now).await?);
        }
        Ok(runs)
    }
}

/// What is to be written about a run after an event, by its retry policy.
pub fn verdict(run: &Claimed, event: Event) -> Finished {
    let retry: RetryPolicy = run.retry.as_deref().map_or_else(RetryPolicy::default, |text| text.parse().unwrap());
    Finished::of(run, Duration::ZERO, decide(run.standing(), event, &retry))
}

/// What is to be written about runs that nobody has in hand.
pub fn verdicts(found: Vec<Orphan>) -> Vec<Finished> {
    found.into_iter().map(|orphan| orphan.finished).collect()
}

/// A handler's plain failure.
pub fn failure() -> Event {
    Event::Failed { kind: "error", message: "it broke".to_owned(), after: None }
}

/// A session with the settings that the engine's own have.
pub async fn engine_session(database: &Database) -> PgConnection {
    let options: PgConnectOptions = database.url.parse().unwrap();
    options.options(watchbell::worker::SETTINGS).connect().await.unwrap()
}

/// What the SQL side takes for now in this session.
pub async fn set_clock(connection: &mut PgConnection, now: DateTime<Utc>) {
    let set = sqlx::query("select set_config('watchbell.now', $1, false)");
    set.bind(now.to_rfc3339()).execute(connection).await.unwrap();
}

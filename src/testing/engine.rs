//! The engine, cranked by hand.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use super::Ran;
use super::at_set_time::{Clock, at_set_time};
use super::time::LEASE;
use crate::db::Named;
use crate::handler::{Context, Outlet, Registry, StopReason, Stream};
use crate::lifecycle::claim::{Claimant, Claimed, Lanes, Reach, claim, claim_keyed, survey};
use crate::lifecycle::execute::{Executed, Executor, execute, facts};
use crate::lifecycle::finish::{Finished, finish};
use crate::lifecycle::register::{Identity, register};
use crate::lifecycle::{fire, requests};
use crate::retry::RetryPolicy;
use crate::run::transition::{Event, decide};
use crate::run::{RunId, Status};
use crate::worker::Config;
use crate::{Error, Result, client, migrate, worker};

/// More attempts than this at one time mean that something enqueues itself for ever; of one run, so many.
pub(super) const ATTEMPTS_MAX: usize = 10_000;
pub(super) const ATTEMPTS_OF_ONE_MAX: usize = 100;

/// Your handlers on a database of the test's own, at a time that the test sets.
///
/// See the [module](super) for what it does and an example. Errors of its functions are the database's,
/// or [`Error::Invalid`] and [`Error::Conflict`] where a line says so.
///
/// ```no_run
/// # use watchbell::{Registry, testing::Engine};
/// # async fn example(pool: sqlx::PgPool, handlers: Registry) -> watchbell::Result<()> {
/// let mut engine = Engine::new(pool, handlers).await?;
/// let tomorrow = engine.now() + chrono::TimeDelta::days(1);
/// for ran in engine.run_until(tomorrow).await? { // every schedule and retry at its time
///     println!("{} {} {}", ran.at, ran.handler, ran.status);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Engine {
    pub(super) connection: PgConnection,
    pub(super) pool: PgPool,
    pub(super) clock: Clock,
    pub(super) now: DateTime<Utc>,
    pub(super) who: Claimant,
    pub(super) executor: Executor,
    output_limit: usize,
    /// How long a batch of watched rows may take.
    pub(super) watch_transaction: Duration,
}

/// A run that the engine has claimed and not executed yet.
///
/// ```no_run
/// # async fn example(engine: &mut watchbell::testing::Engine) -> watchbell::Result<()> {
/// let held = engine.claim(1).await?.remove(0);
/// assert_eq!(held.attempt(), 1);
/// engine.lose(held).await?; // its worker dies: the run comes back
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it stays running until it is executed, given back or lost"]
pub struct Held(Claimed);

impl Held {
    /// The number of the run.
    pub fn id(&self) -> RunId {
        RunId(self.0.id)
    }

    /// The number of the attempt, from 1.
    pub fn attempt(&self) -> i32 {
        self.0.attempt
    }

    /// Whom it is for.
    pub fn handler(&self) -> &str {
        &self.0.handler
    }
}

/// What firing did.
///
/// ```no_run
/// # async fn example(engine: &mut watchbell::testing::Engine) -> watchbell::Result<()> {
/// let fired = engine.fire().await?;
/// assert_eq!((fired.runs, fired.skipped), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fired {
    /// Runs made.
    pub runs: u64,
    /// Fire times (or gaps) that made no run, see [`Engine::fires`].
    pub skipped: u64,
    /// Schedules that were found invalid: name and reason.
    pub invalid: Vec<(String, String)>,
}

impl Engine {
    /// These handlers on the database of this pool, at the database's time. Handlers use the pool as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrongly registered handler, [`Error::Schema`] when the database must be migrated.
    pub async fn new(pool: PgPool, handlers: Registry) -> Result<Self> {
        Self::of(worker::Worker::builder(pool).registry(handlers)).await
    }

    /// What this worker would be: its pool, handlers, state and middleware, the schedules that it declares, and
    /// of its options queues, labels and grace. Its hooks are not called.
    ///
    /// # Errors
    /// As [`Engine::new`], and [`Error::Invalid`] for a bad option.
    pub async fn of(worker: worker::Builder) -> Result<Self> {
        let worker::Parts { pool, registry, config, jobs, around } = worker.into_parts();
        config.check()?;
        registry.check()?;
        jobs.check(&registry)?;
        let options = (*pool.connect_options()).clone().application_name("watchbell testing");
        let mut connection = options.options(worker::SETTINGS).disable_statement_logging().connect().await?;
        migrate::check(&mut connection).await?;
        jobs.declare(&mut connection, &registry).await?;
        let clock = Clock::of(&pool.connect_options());
        let began = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut connection);
        let began: DateTime<Utc> = began.await.named()?;
        sqlx::query("select watchbell.make_days(1)").execute(&mut connection).await.named()?;
        let identity = Identity {
            name: "testing".to_owned(),
            host: "testing".to_owned(),
            ip: None,
            pid: i32::try_from(std::process::id()).unwrap_or(i32::MAX),
            handlers: registry.names(),
            queues: config.queues.clone(),
            labels: config.labels.clone(),
            slots: 1,
            lease: LEASE,
        };
        let worker = register(&mut connection, &identity, Some(began)).await.named()?;
        let who = Claimant { worker, queues: config.queues, handlers: identity.handlers, labels: config.labels };
        let executor = Executor { registry, around, pool: pool.clone(), grace: config.grace, now: None };
        let Config { output_limit, watch_transaction, .. } = config;
        let timed = at_set_time(&pool);
        let mut engine =
            Self { connection, pool: timed, clock, now: began, who, executor, output_limit, watch_transaction };
        // another engine on this database may have gone ahead
        engine.turn(engine.clock.now().map_or(began, |now| now.max(began))).await.named()?;
        Ok(engine)
    }

    /// A pool on the same database whose sessions live at the set time, see [`at_set_time`].
    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// Fires schedules and runs what is due, one run after the other, until nothing is due at the set time.
    ///
    /// What handlers enqueue without a delay is run too; runs of other handlers stay. Priority, then due
    /// time say what comes first. One entry for each attempt, in order.
    ///
    /// # Errors
    /// [`Error::Conflict`] after 10,000 attempts, or 100 of one run, without time passing: it would never end.
    pub async fn run_due(&mut self) -> Result<Vec<Ran>> {
        let mut all = vec![];
        let mut of_one: HashMap<RunId, usize> = HashMap::new();
        while let Some(ran) = self.run_next().await? {
            let times = of_one.entry(ran.id).or_default();
            *times += 1;
            if *times > ATTEMPTS_OF_ONE_MAX || all.len() == ATTEMPTS_MAX {
                let (id, handler, count) = (ran.id, ran.handler, all.len());
                let problem = "with no time passing; does it snooze for no time, or enqueue itself?";
                return Err(Error::Conflict(format!(
                    "still not done after {count} attempts, the last of run {id}, handler \"{handler}\", {problem}"
                )));
            }
            all.push(ran);
        }
        Ok(all)
    }

    /// Like [`Engine::run_due`], for one run only; `None` when nothing is due.
    pub async fn run_next(&mut self) -> Result<Option<Ran>> {
        self.fire().await?;
        match self.take(1).await?.pop() {
            Some(run) => self.execute(Held(run)).await.map(Some),
            None => Ok(None),
        }
    }

    /// Goes to `end` by way of every time at which something comes due, and runs it then.
    ///
    /// A day of schedules and retries takes as long as its handlers do.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a time before [`Engine::now`], [`Error::Conflict`] as [`Engine::run_due`].
    pub async fn run_until(&mut self, end: DateTime<Utc>) -> Result<Vec<Ran>> {
        let mut all = self.run_due().await?;
        loop {
            let next = sqlx::query_scalar(include_str!("../sql/testing/next.sql"))
                .bind(self.now)
                .bind(&self.who.handlers)
                .fetch_one(&mut self.connection);
            let next: Option<DateTime<Utc>> = next.await.named()?;
            let next = next.filter(|next| *next < end);
            self.set_now(next.unwrap_or(end)).await?;
            all.extend(self.run_due().await?);
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    /// Runs this run, and no other, if it is due.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it cannot run now, with the reason; [`Error::NotFound`] for an unknown id.
    pub async fn run(&mut self, id: RunId) -> Result<Ran> {
        self.catch_up().await?;
        let mut wanted = None;
        for run in self.take(i64::from(i32::MAX)).await? {
            if run.id == id.0 {
                wanted = Some(run);
            } else {
                self.end(&run, Event::GivenBack).await?;
            }
        }
        match wanted {
            Some(run) => self.execute(Held(run)).await,
            None => {
                let row = client::run(&mut self.connection, id).await?;
                let why = match row.status {
                    Status::Pending if row.run_at > self.now => {
                        format!("due at {}, and it is {}", row.run_at, self.now)
                    }
                    Status::Pending if !self.who.handlers.contains(&row.handler) => {
                        format!("for handler \"{}\", which this engine does not have", row.handler)
                    }
                    Status::Pending => "held up by its queue, target or concurrency key".to_owned(),
                    status => status.to_string(),
                };
                Err(Error::Conflict(format!("run {id} cannot run now: it is {why}")))
            }
        }
    }

    /// Only fires: turns due schedules into runs, and plans new ones.
    pub async fn fire(&mut self) -> Result<Fired> {
        self.catch_up().await?;
        let mut all = Fired::default();
        loop {
            let fired = fire::fire(&mut self.connection, 1000, Some(self.now)).await.named()?;
            if fired.schedules == 0 {
                return Ok(all);
            }
            all.runs += fired.runs;
            all.skipped += fired.skipped;
            all.invalid.extend(fired.invalid);
        }
    }

    /// Only claims: up to `limit` due runs become `running`, and wait for [`Engine::execute`].
    pub async fn claim(&mut self, limit: u32) -> Result<Vec<Held>> {
        self.catch_up().await?;
        Ok(self.take(i64::from(limit)).await?.into_iter().map(Held).collect())
    }

    /// Calls the handler of a claimed run and records how it ended.
    ///
    /// If its cancellation was requested meanwhile, the handler finds itself asked to stop; if its start
    /// deadline has passed, it is not called.
    ///
    /// # Errors
    /// [`Error::Conflict`] when an open transaction has locked the schedule of the run.
    pub async fn execute(&mut self, held: Held) -> Result<Ran> {
        let run = held.0;
        let waited = (self.now - run.claimed_at).to_std().unwrap_or_default();
        let registry = &self.executor.registry;
        let timeout = registry.get(&run.handler).map_or(run.timeout, |entry| entry.options.timeout_of(run.timeout));
        let outlet = Outlet::new(self.output_limit);
        let facts = facts(&run, timeout);
        let context = Context::new(facts, CancellationToken::new(), Some(outlet.clone()), registry.states());
        let asked = requests::requests(&mut self.connection, self.who.worker).await.named()?;
        if let Some((_, reason)) = asked.cancel.into_iter().find(|(id, _)| *id == run.id) {
            context.stop(StopReason::Cancelled(reason));
        }
        context.begin();
        self.executor.now = Some(self.now);
        let executed = execute(&self.executor, &run, waited, &context).await;
        context.close_output();
        let lines = self.written(&outlet).await?;
        if let Executed::Verdict(finished) = executed {
            self.record(finished).await?;
        }
        self.ran(&run, lines).await
    }

    /// Writes all that an attempt printed; answers the lines that it logged.
    async fn written(&self, outlet: &Outlet) -> Result<Vec<String>> {
        outlet.close();
        let mut logged = vec![];
        while outlet.held() > 0
            && let Some(batch) = outlet.next().await
        {
            worker::write_output(&self.pool, &batch, false).await.named()?;
            for piece in batch.pieces.iter().filter(|piece| piece.stream == Stream::Log) {
                logged.extend_from_slice(&piece.bytes);
            }
            outlet.settle(&batch);
        }
        Ok(String::from_utf8_lossy(&logged).lines().map(str::to_owned).collect())
    }

    /// The worker of a claimed run dies: the attempt counts as a crash, and the run comes back, or is `failed`
    /// after its last attempt or third crash.
    pub async fn lose(&mut self, held: Held) -> Result<Ran> {
        self.end(&held.0, Event::WorkerLost).await?;
        self.ran(&held.0, vec![]).await
    }

    /// A claimed run goes back as it was, its attempt unused: what a worker that shuts down does.
    pub async fn give_back(&mut self, held: Held) -> Result<()> {
        self.end(&held.0, Event::GivenBack).await
    }

    /// A thorough claim: what a worker finds by its sweeps.
    async fn take(&mut self, limit: i64) -> Result<Vec<Claimed>> {
        let (conn, now) = (&mut self.connection, Some(self.now));
        let mut lanes = Lanes::default();
        survey(conn, &self.who, &mut lanes, now).await.named()?;
        let mut runs = claim(conn, &self.who, &mut lanes, Reach::Sweep, limit, now).await.named()?;
        while let room @ 1.. = limit - i64::try_from(runs.len()).unwrap_or(limit) {
            let keyed = claim_keyed(conn, &self.who, &mut lanes, room, now).await.named()?;
            if keyed.is_empty() {
                break;
            }
            runs.extend(keyed);
        }
        Ok(runs)
    }

    async fn end(&mut self, run: &Claimed, event: Event) -> Result<()> {
        let retry: RetryPolicy = run.retry.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default();
        let waited = (self.now - run.claimed_at).to_std().unwrap_or_default();
        self.record(Finished::of(run, waited, decide(run.standing(), event, &retry))).await
    }

    async fn record(&mut self, finished: Finished) -> Result<()> {
        let id = finished.id;
        let recorded = finish(&mut self.connection, vec![finished], Some(self.now)).await.named()?;
        if recorded.held.is_empty() {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "run {id} cannot end: an open transaction has locked its schedule; end that first"
        )))
    }

    async fn ran(&mut self, run: &Claimed, lines: Vec<String>) -> Result<Ran> {
        let row = client::run(&mut self.connection, RunId(run.id)).await?;
        Ok(Ran::new(run, &row, self.now, lines))
    }
}

//! The watcher: works the rows of people's own tables, as `watchbell.watches` says.
//!
//! It sleeps until there is a watch at all; a worker without one sends no statement for them. Each step whose handler
//! this worker has gets a task of its own (`step`), which looks, works and rests by itself, so that nothing that is
//! wrong with one watch touches another. A heartbeat brings a mark that changes with every edit and every plan: then
//! the list is read again, and steps of what changed begin anew.
//!
//! Handlers use the pool they were given, of which at most eight connections, and never the last two, are in
//! transactions of the watcher's. What the watcher itself writes goes through pools of its own, of three connections
//! and two, each opened when it is needed.

mod complaints;
mod doze;
mod leased;
mod step;
mod tally;
mod transactional;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicU16},
    time::Duration,
};

use sqlx::{
    ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use self::{complaints::Complaints, doze::Doze, tally::Tally};
use super::{
    journal,
    quiet::Bell,
    session::{SETTINGS, within},
    shared::{Phase, Shared, locked},
};
use crate::{
    Error,
    lifecycle::{
        watch_crashed,
        watch_plan::{self, Found, Planner, Written},
    },
    watch::{Mode, Plan, read},
};

/// Connections of the watcher's own.
const OWN: u32 = 3;
/// Connections on which rows are claimed, for all steps in leased mode.
const CLAIMS: u32 = 2;
/// Transactions of handlers that one process has open at once, however large their pool.
const OPEN_MAX: u32 = 8;
/// How long planning one watch may take.
const PLAN_MAX: Duration = Duration::from_secs(10);
/// Until a watch is planned again whose table somebody had locked.
const PLAN_AGAIN: Duration = Duration::from_secs(3);
/// Between two readings of the list without a reason.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// Between two writings of what was done.
const TALLY_PAUSE: Duration = Duration::from_millis(500);
/// Between two looks for batches of the dead while somebody has died lately.
const CRASHED_PAUSE: Duration = Duration::from_secs(2);

/// What the other tasks tell the watcher.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    /// Of the last heartbeat: another one than before means that some watch changed. `None`: there are none.
    mark: Mutex<Option<i64>>,
    /// There was one.
    heard: std::sync::atomic::AtomicBool,
    /// Wakes the watcher.
    news: Notify,
    /// Somebody died lately.
    deaths: std::sync::atomic::AtomicBool,
    /// Handlers are to stop at once.
    pub(super) force: CancellationToken,
}

impl Hearsay {
    /// A heartbeat was heard.
    pub(super) fn beat(&self, mark: Option<i64>, deaths: bool) {
        let was = std::mem::replace(&mut *locked(&self.mark), mark);
        self.heard.store(true, std::sync::atomic::Ordering::Release);
        if was != mark || (deaths && mark.is_some()) {
            self.deaths.fetch_or(deaths, std::sync::atomic::Ordering::AcqRel);
            self.news.notify_one();
        }
    }

    fn mark(&self) -> Option<i64> {
        *locked(&self.mark)
    }

    /// The mark of the last heartbeat, if there was one.
    pub(super) fn mark_heard(&self) -> Option<Option<i64>> {
        self.heard.load(std::sync::atomic::Ordering::Acquire).then(|| self.mark())
    }
}

/// What all steps of this worker share.
#[derive(Debug)]
struct Site {
    shared: Arc<Shared>,
    /// Connections that handlers do not use.
    own: PgPool,
    /// The same for claims, which are to last.
    claims: PgPool,
    /// One for each transaction that may be open.
    open: Semaphore,
    tally: Tally,
    complaints: Complaints,
    /// How often a step in transactional mode has begun.
    begun: AtomicU16,
}

/// The steps of one watch at work.
#[derive(Debug)]
struct Working {
    mark: read::Listed,
    /// Ends the looks of its steps; what they have in hand goes on.
    end: CancellationToken,
    /// Its steps as others know them, to wake each: a row may have come.
    bells: Arc<[Bell]>,
    /// When its pause ends by itself.
    resumes: Option<Instant>,
}

/// Works watches until the worker drains.
pub(super) async fn watch(shared: Arc<Shared>, pool: PgPool) {
    tokio::select! {
        () = some_watch(&shared) => {}
        () = shared.at_least(Phase::Draining) => return,
    }
    let handlers = pool.options().get_max_connections();
    let open = handlers.saturating_sub(2).clamp(1, OPEN_MAX);
    let site = Site {
        own: own(&pool, OWN, &[("synchronous_commit", "off")]),
        claims: own(&pool, CLAIMS, &[CLAIMING]),
        open: Semaphore::new(open as usize),
        tally: Tally::default(),
        complaints: Complaints::default(),
        begun: AtomicU16::new(0),
        shared,
    };
    let watcher = Watcher {
        all: Arc::new(site),
        working: HashMap::new(),
        steps: JoinSet::new(),
        unable: HashMap::new(),
        seen: None,
    };
    watcher.work().await;
}

/// Tells the trigger of a watched table that what changes is no news: rows go to their `via` state, if there are any.
const CLAIMING: (&str, &str) = ("watchbell.claiming", "on");

/// Completes when a heartbeat has seen one.
async fn some_watch(shared: &Shared) {
    while shared.watches.mark().is_none() {
        shared.watches.news.notified().await;
    }
}

/// A pool that handlers do not use. What the watcher writes without waiting for the disk may be lost in a crash of the
/// server, which also ends the transactions that it is about.
fn own(pool: &PgPool, connections: u32, settings: &[(&str, &str)]) -> PgPool {
    let options: PgConnectOptions = (*pool.connect_options()).clone().application_name("watchbell watch");
    let options = options.options(SETTINGS).options([("lock_timeout", "1s")]).options(settings.iter().copied());
    let options = options.log_statements(tracing::log::LevelFilter::Off);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PLAN_MAX)
        .idle_timeout(Duration::from_secs(60))
        .connect_lazy_with(options)
}

struct Watcher {
    all: Arc<Site>,
    working: HashMap<i64, Working>,
    steps: JoinSet<()>,
    /// Why this worker cannot work what others can, so that the log says it once.
    unable: HashMap<i64, String>,
    /// The mark that the list was read for.
    seen: Option<i64>,
}

impl Watcher {
    async fn work(mut self) {
        let shared = Arc::clone(&self.all.shared);
        let mut read_at = Instant::now();
        let (mut crashed_at, mut tally_at) = (Instant::now(), Instant::now());
        while shared.phase() == Phase::Running {
            let mark = shared.watches.mark();
            if mark != self.seen || read_at <= Instant::now() {
                read_at = Instant::now() + READ_AGAIN;
                match self.read().await {
                    Ok(all_planned) => {
                        self.seen = mark;
                        shared.quiet.read(mark);
                        shared.tell_quiet();
                        read_at = if all_planned { read_at } else { Instant::now() + PLAN_AGAIN };
                    }
                    Err(error) => {
                        tracing::warn!(%error, "watches could not be read; trying again");
                        read_at = Instant::now() + Duration::from_secs(1);
                    }
                }
            }
            if crashed_at <= Instant::now() {
                let died = shared.watches.deaths.swap(false, std::sync::atomic::Ordering::AcqRel);
                crashed_at = Instant::now() + if died { CRASHED_PAUSE } else { READ_AGAIN };
                self.charge_the_dead().await;
            }
            self.resume().await;
            if tally_at <= Instant::now() && !self.all.tally.is_empty() {
                tally_at = Instant::now() + TALLY_PAUSE;
                self.all.tally.write(&self.all).await;
            }
            let tells = if self.all.tally.is_empty() { read_at } else { tally_at };
            let resumes = self.working.values().filter_map(|working| working.resumes).min();
            let until = resumes.into_iter().fold(tells.min(read_at).min(crashed_at), Ord::min);
            tokio::select! {
                () = time::sleep_until(until) => {}
                () = shared.watches.news.notified() => {
                    if shared.watches.deaths.load(std::sync::atomic::Ordering::Acquire) {
                        crashed_at = crashed_at.min(Instant::now() + CRASHED_PAUSE);
                    }
                }
                () = shared.watching.notified() => self.wake_all(),
                () = self.all.tally.begun() => {}
                () = shared.at_least(Phase::Draining) => {}
            }
            while self.steps.try_join_next().is_some() {}
        }
        self.drain().await;
    }

    /// Reads the list, plans what changed, and begins its steps anew. False: some could not be planned now.
    async fn read(&mut self) -> sqlx::Result<bool> {
        let mut all_planned = true;
        let mut conn = self.all.own.acquire().await?;
        let shared = Arc::clone(&self.all.shared);
        let registry = &shared.executor.registry;
        let planner = Planner { worker: shared.worker(), registry, transaction_max: shared.config.watch_transaction };
        let list = within(PLAN_MAX, read::list(&mut conn, &registry.names())).await?;
        self.unable.retain(|id, _| list.iter().any(|listed| listed.id == *id));
        self.all.complaints.retain(|id| list.iter().any(|listed| listed.id == id));
        self.working.retain(|id, working| {
            let stays = list.iter().any(|listed| listed.id == *id);
            if !stays {
                working.end.cancel();
                self.all.shared.quiet.leave(*id);
            }
            stays
        });
        for mut listed in list {
            let is_due = listed.unplanned || listed.orphaned;
            if self.working.get(&listed.id).is_some_and(|working| working.mark == listed && !is_due) {
                continue;
            }
            let planned = watch_plan::plan(&mut conn, listed.id, &planner, listed.unplanned);
            match time::timeout(PLAN_MAX, planned).await {
                Ok(Ok((found, written))) => {
                    if written == Written::Held {
                        // its mark is none that the list will have, so it is planned again
                        (listed.unplanned, all_planned) = (true, false);
                    }
                    self.tell(&found, &written, &planner);
                    self.planned(&listed);
                    self.take_up(listed, found);
                }
                Ok(Err(Error::Database(error))) if error.as_database_error().is_none() => return Err(error),
                // somebody may hold its table: the others go on
                Ok(Err(error)) => {
                    self.not_planned(&listed, &error.to_string());
                    all_planned = false;
                }
                Err(_) => {
                    self.not_planned(&listed, &format!("it took longer than {PLAN_MAX:?}"));
                    return Err(sqlx::Error::PoolTimedOut); // the connection is in the middle of something
                }
            }
        }
        Ok(all_planned)
    }

    /// The log tells what turned, once: the worker that wrote it, and one that cannot do what others can.
    fn tell(&mut self, found: &Found, written: &Written, planner: &Planner<'_>) {
        if let (Some(name), Written::Turned(error)) = (found.name(), written) {
            journal::watch_turned(planner.worker, name, error.as_deref());
        }
        let Some((id, name, reason)) = found.unable() else { return };
        if self.unable.insert(id, reason.to_owned()).as_deref() != Some(reason) {
            journal::watch_unable(planner.worker, name, reason);
        }
    }

    fn not_planned(&self, listed: &read::Listed, error: &str) {
        if self.all.complaints.is_news(listed.id, "", error, Instant::now()) {
            journal::watch_not_planned(self.all.shared.worker(), &listed.name, error);
        }
    }

    fn planned(&self, listed: &read::Listed) {
        if self.all.complaints.is_over(listed.id, "", Duration::ZERO, Instant::now()) {
            journal::watch_planned(self.all.shared.worker(), &listed.name);
        }
    }

    fn take_up(&mut self, listed: read::Listed, found: Found) {
        match found {
            Found::Planned(plan) => self.begin(listed, Arc::from(plan)),
            Found::Unable { .. } | Found::Invalid { .. } | Found::Gone => self.end(listed.id),
        }
    }

    fn end(&mut self, id: i64) {
        if let Some(working) = self.working.remove(&id) {
            working.end.cancel();
        }
        self.all.shared.quiet.leave(id);
        self.tell_plans(|plans| drop(plans.remove(&id)));
    }

    fn tell_plans(&self, change: impl FnOnce(&mut HashMap<i64, Arc<Plan>>)) {
        let mut plans = (*self.all.shared.plans()).clone();
        change(&mut plans);
        self.all.shared.set_plans(plans);
    }

    /// Begins the steps of a watch, in place of those that were at work.
    fn begin(&mut self, mark: read::Listed, plan: Arc<Plan>) {
        let id = mark.id;
        self.end(id);
        self.tell_plans(|plans| drop(plans.insert(id, Arc::clone(&plan))));
        let watch = &plan.watch;
        let resumes = watch.paused_for.filter(|_| watch.paused).map(|wait| Instant::now() + wait);
        // one whose pause is over is worked in a moment
        let rests = watch.paused && resumes.is_none_or(|at| at > Instant::now());
        let bells: Arc<[Bell]> = plan.steps.iter().map(|planned| Bell::of(planned.mode.is_some() && !rests)).collect();
        self.all.shared.quiet.enter(id, Arc::clone(&bells));
        let doze = Arc::new(Doze::default());
        let working = Working { mark, end: CancellationToken::new(), bells, resumes };
        let modes = plan.steps.iter().map(|planned| planned.mode.map_or("no handler", Mode::word));
        tracing::debug!(watch = watch.name, table = plan.table.shown(), modes = ?modes.collect::<Vec<_>>(), "planned");
        for advice in &plan.advice {
            tracing::debug!(watch = watch.name, "it would be faster with: {advice}");
        }
        for (n, planned) in plan.steps.iter().enumerate().filter(|_| !watch.paused) {
            let Some(mode) = planned.mode else { continue };
            let step = step::Step {
                all: Arc::clone(&self.all),
                plan: Arc::clone(&plan),
                step: n,
                end: working.end.clone(),
                bells: Arc::clone(&working.bells),
                doze: Arc::clone(&doze),
            };
            match mode {
                Mode::Transactional => drop(self.steps.spawn(transactional::work(step))),
                Mode::Leased => drop(self.steps.spawn(leased::work(step))),
            }
        }
        self.working.insert(id, working);
    }

    /// A row may have come, to any watch.
    fn wake_all(&self) {
        self.working.values().flat_map(|working| working.bells.iter()).for_each(|bell| bell.wake.notify_one());
    }

    async fn resume(&mut self) {
        let now = Instant::now();
        for (id, working) in self.working.iter_mut().filter(|(_, working)| working.resumes.is_some_and(|at| at <= now))
        {
            working.resumes = None;
            let resumed = async { watch_plan::resume(&mut *self.all.own.acquire().await?, *id).await };
            if let Err(error) = within(PLAN_MAX, resumed).await {
                let watch = &working.mark.name;
                tracing::warn!(target: "watchbell::watch", watch, %error, "watch could not be resumed; trying again");
                working.resumes = Some(now + Duration::from_secs(1));
            }
        }
    }

    async fn charge_the_dead(&self) {
        match within(PLAN_MAX, watch_crashed::charge(&self.all.own)).await {
            Ok(rows) if rows.is_empty() => {}
            Ok(rows) => {
                rows.iter().for_each(|row| self.all.shared.row_journal.charged(row));
                self.wake_all();
            }
            Err(error) => tracing::debug!(%error, "batches of dead workers could not be looked for"),
        }
    }

    /// Takes nothing more, and waits for what is open: a transaction lasts a few seconds at most.
    async fn drain(mut self) {
        self.working.values().for_each(|working| working.end.cancel());
        let shared = Arc::clone(&self.all.shared);
        let steps = &mut self.steps;
        let ended = async { while steps.join_next().await.is_some() {} };
        let patience = shared.config.drain_timeout.min(shared.config.watch_transaction * 2);
        tokio::select! {
            () = ended => {}
            () = async {
                tokio::select! {
                    () = time::sleep(patience) => shared.watches.force.cancel(),
                    () = shared.watches.force.cancelled() => {}
                }
                // as long as a handler has to stop, and a little more for the way back
                time::sleep(shared.config.grace + Duration::from_millis(500)).await;
            } => tracing::warn!("handlers of watched rows did not stop in time; their transactions are rolled back"),
        }
        self.steps.shutdown().await;
        self.all.tally.write(&self.all).await;
        let closed = async { tokio::join!(self.all.own.close(), self.all.claims.close()) };
        let _ = time::timeout(Duration::from_secs(1), closed).await;
    }
}

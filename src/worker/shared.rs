//! What the tasks of one worker share, all of it in memory and all of it disposable.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, RwLock, Semaphore, mpsc, watch},
    task::AbortHandle,
    time::Instant,
};

use super::{
    Config, journal::RowJournal, observer::Observer, quiet::Quiet, room::Rooms, unwritten::Unwritten, watcher::Hearsay,
};
use crate::{
    handler::{Context, Outlet, StopReason},
    lifecycle::{claim::Claimed, execute::Executor, finish::Finished, register::Identity, rescue::Judgement},
    metrics::{Meter, Meters},
    watch::Plan,
};

/// How far a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Claims and fires.
    Running,
    /// Claims nothing more, waits for its runs.
    Draining,
    /// Every run has ended or was given back.
    Over,
}

/// Things the poller is asked to look at. Set by hints; looking in vain costs a statement.
#[derive(Debug, Default)]
pub(super) struct Duties {
    pub(super) fire: AtomicBool,
    /// What comes due next may have changed.
    pub(super) ahead: AtomicBool,
    pub(super) sweep: AtomicBool,
    pub(super) keyed: AtomicBool,
    pub(super) rescue: AtomicBool,
    /// This worker itself gave runs up.
    pub(super) orphans: AtomicBool,
    pub(super) requests: AtomicBool,
    pub(super) resume: AtomicBool,
}

/// Takes a duty off the list.
pub(super) fn take(duty: &AtomicBool) -> bool {
    duty.load(Ordering::Relaxed) && duty.swap(false, Ordering::AcqRel)
}

/// A run that a task of this worker holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) run: Arc<Claimed>,
    pub(super) context: Context,
    pub(super) meter: Meter,
    pub(super) claimed: Instant,
    /// When its handler was called; `None` while it waits for a slot.
    pub(super) started: Option<Instant>,
    pub(super) task: Option<AbortHandle>,
}

/// How the last heartbeats went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beat {
    /// The last one that the database answered.
    pub(super) last: Instant,
    /// Since when they are unbroken.
    pub(super) unbroken_since: Option<Instant>,
    /// How many in a row were on time.
    pub(super) on_time: u32,
    /// Since when this session holds the presence lock.
    pub(super) presence_since: Option<Instant>,
    /// One has failed since the last that was answered, and the log says so.
    pub(super) lost: bool,
}

/// How the poller fares.
#[derive(Debug, Clone)]
pub(super) struct Polling {
    /// When a round of looks last came to its end.
    pub(super) last: Instant,
    /// What the last one failed of.
    pub(super) problem: Option<String>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) who: Identity,
    pub(super) executor: Executor,
    pub(super) duties: Duties,
    /// Wakes the poller.
    pub(super) wake: Notify,
    /// Held while runs are claimed: whoever gets it after the phase has changed sees every run in hand.
    pub(super) claiming: tokio::sync::Mutex<()>,
    /// The same for rows of watches, apart: a slow table of somebody's is not to hold up runs.
    pub(super) claiming_rows: tokio::sync::Mutex<()>,
    /// What the watcher is told.
    pub(super) watches: Hearsay,
    /// Tells what becomes of rows.
    pub(super) row_journal: RowJournal,
    /// Whether they have nothing left to do.
    pub(super) quiet: Quiet,
    /// Wakes whoever takes rows of watches.
    pub(super) watching: Notify,
    /// Claims of watched rows may be nobody's.
    pub(super) abandoned: Notify,
    pub(super) slots: Semaphore,
    /// Places of handlers that have only so many.
    pub(super) rooms: Rooms,
    /// Tells hooks what became of runs.
    pub(super) observer: Observer,
    /// What runs are counted in.
    pub(super) meters: Meters,
    /// How the poller fares.
    pub(super) polling: Mutex<Polling>,
    /// Why this build does not work with the schema any more, as the poller saw it within the last minute.
    pub(super) schema_problem: Mutex<Option<String>>,
    /// Runs that took their worker down twice run [alone](super::alone): they hold this for writing, all others for
    /// reading.
    pub(super) alone: RwLock<()>,
    /// Verdicts that the flusher and the settler have not written yet.
    pub(super) unwritten: Unwritten,
    /// When the next run or schedule comes due.
    pub(super) next_due: Mutex<Option<Instant>>,
    pub(super) beat: Mutex<Beat>,
    /// The database's time at the last heartbeat, in seconds, and how far this machine's clock was ahead of it.
    pub(super) heard: Mutex<Option<(f64, f64)>>,
    held: Mutex<HashMap<i64, Held>>,
    in_hand: AtomicUsize,
    /// Those of them that are rows of watches.
    rows_in_hand: AtomicUsize,
    /// Watches as they were planned last, by their numbers.
    plans: Mutex<Arc<HashMap<i64, Arc<Plan>>>>,
    /// A run that ended tells the drain.
    ended: Notify,
    worker: AtomicI32,
    phase: watch::Sender<Phase>,
    results: mpsc::UnboundedSender<Finished>,
    /// Verdicts about rows of watches.
    row_results: mpsc::UnboundedSender<Finished>,
    outlet: Outlet,
    /// Moving average of how long handlers take, in nanoseconds.
    pace_ns: AtomicU64,
}

/// A poisoned lock only means that a task panicked between two plain writes.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        config: Config,
        who: Identity,
        worker: i32,
        executor: Executor,
        (results, row_results): (mpsc::UnboundedSender<Finished>, mpsc::UnboundedSender<Finished>),
        outlet: Outlet,
        observer: Observer,
    ) -> Self {
        let beat = Beat { last: Instant::now(), unbroken_since: None, on_time: 0, presence_since: None, lost: false };
        Self {
            slots: Semaphore::new(config.slots),
            rooms: Rooms::of(&executor.registry),
            observer,
            meters: Meters::default(),
            polling: Mutex::new(Polling { last: Instant::now(), problem: None }),
            schema_problem: Mutex::default(),
            config,
            who,
            executor,
            duties: Duties::default(),
            wake: Notify::new(),
            claiming: tokio::sync::Mutex::default(),
            claiming_rows: tokio::sync::Mutex::default(),
            watches: Hearsay::default(),
            row_journal: RowJournal::default(),
            quiet: Quiet::new(),
            watching: Notify::new(),
            abandoned: Notify::new(),
            alone: RwLock::new(()),
            unwritten: Unwritten::default(),
            next_due: Mutex::new(None),
            beat: Mutex::new(beat),
            heard: Mutex::default(),
            held: Mutex::default(),
            in_hand: AtomicUsize::new(0),
            rows_in_hand: AtomicUsize::new(0),
            plans: Mutex::default(),
            ended: Notify::new(),
            worker: AtomicI32::new(worker),
            phase: watch::Sender::new(Phase::Running),
            results,
            row_results,
            outlet,
            pace_ns: AtomicU64::new(1_000_000_000),
        }
    }

    /// The number under which this worker claims now; it changes when it was declared dead.
    pub(super) fn worker(&self) -> i32 {
        self.worker.load(Ordering::Acquire)
    }

    pub(super) fn renumber(&self, worker: i32) {
        self.worker.store(worker, Ordering::Release);
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Moves on to a later phase; never back.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = (*now).max(phase);
            later
        });
        self.wake.notify_one();
    }

    /// Completes when that phase, or a later one, is reached.
    pub(super) async fn at_least(&self, phase: Phase) {
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Something comes due after this long, as far as this worker knows; it may know of something earlier.
    pub(super) fn due_in(&self, wait: Duration) {
        let at = Instant::now() + wait;
        let mut next = locked(&self.next_due);
        if next.is_none_or(|next| at < next) {
            *next = Some(at);
            drop(next);
            self.wake.notify_one();
        }
    }

    /// Sets a duty and wakes the poller.
    pub(super) fn ask(&self, duty: &AtomicBool) {
        duty.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether this worker may claim: it does not drain, its heartbeats are unbroken and its lease is not over (that of
    /// a process that was frozen may be, before it hears of that), it has its presence lock or a heartbeat of the last
    /// 1.5 s, and its verdicts are being written.
    pub(super) fn may_claim(&self) -> bool {
        let beat = *locked(&self.beat);
        self.phase() == Phase::Running
            && beat.unbroken_since.is_some()
            && beat.last.elapsed() < self.config.lease
            && (beat.presence_since.is_some() || beat.last.elapsed() < Duration::from_millis(1500))
            && self.unwritten.count() < BACKLOG_MAX
    }

    /// By what this worker may declare others dead.
    pub(super) fn judgement(&self) -> Judgement {
        let beat = *locked(&self.beat);
        Judgement {
            by_presence: beat.on_time >= 3 && beat.presence_since.is_some_and(|s| s.elapsed() >= self.config.settle),
            by_lease: beat.unbroken_since.is_some_and(|s| s.elapsed() >= self.config.lease),
        }
    }

    /// Runs claimed and not yet executed.
    pub(super) fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::Acquire)
    }

    /// A run was claimed: it is in hand until [`Shared::release`].
    pub(super) fn hold(&self, run: Claimed, context: Context, meter: Meter) {
        self.in_hand.fetch_add(1, Ordering::Relaxed);
        self.rows_in_hand.fetch_add(run.row.is_some().into(), Ordering::Relaxed);
        let held = Held { context, meter, claimed: Instant::now(), started: None, task: None, run: Arc::new(run) };
        locked(&self.held).insert(held.run.id, held);
    }

    pub(super) fn with_held<T>(&self, id: i64, change: impl FnOnce(&mut Held) -> T) -> Option<T> {
        locked(&self.held).get_mut(&id).map(change)
    }

    /// Takes a run out of hand; `None` when somebody else ended it first. `then` reports its end before it
    /// stops counting: a drain that sees nothing in hand may close the flusher's inbox at once.
    pub(super) fn release<T>(&self, id: i64, fence: i64, then: impl FnOnce(Held) -> T) -> Option<T> {
        let mut held = locked(&self.held);
        if held.get(&id).is_none_or(|h| h.run.fence != fence) {
            return None;
        }
        let released = held.remove(&id).map(|released| {
            drop(held);
            self.rows_in_hand.fetch_sub(released.run.row.is_some().into(), Ordering::Relaxed);
            then(released)
        });
        self.quiet.ended();
        self.in_hand.fetch_sub(1, Ordering::Release);
        self.ended.notify_one();
        released
    }

    /// Every run in hand, taken out of it.
    pub(super) fn release_all(&self) -> Vec<Held> {
        let all: Vec<Held> = locked(&self.held).drain().map(|(_, held)| held).collect();
        self.in_hand.fetch_sub(all.len(), Ordering::Relaxed);
        let rows = all.iter().filter(|held| held.run.row.is_some()).count();
        self.rows_in_hand.fetch_sub(rows, Ordering::Relaxed);
        self.ended.notify_one();
        all
    }

    /// Whether its handler is at work and nothing can end it: a thread that blocks.
    pub(super) fn may_outlive(&self, held: &Held) -> bool {
        let work = self.executor.registry.get(&held.run.handler).map(|entry| &entry.work);
        held.started.is_some() && work.is_some_and(|work| !work.stops_when_dropped())
    }

    /// The runs and rows that this worker knows it has claimed: in hand, or with a verdict on its way.
    pub(super) fn known_ids(&self) -> Vec<i64> {
        // in this order: what leaves the hand meanwhile is on its way then
        let mut ids: Vec<i64> = locked(&self.held).keys().copied().collect();
        ids.extend(self.unwritten.ids());
        ids
    }

    /// Asks one run's handler to stop.
    pub(super) fn stop_run(&self, id: i64, reason: StopReason) {
        self.with_held(id, |held| held.context.stop(reason));
    }

    /// Asks every handler to stop.
    pub(super) fn stop_runs(&self, reason: &StopReason) {
        for held in locked(&self.held).values() {
            held.context.stop(reason.clone());
        }
    }

    /// Asks the runs that are kept alive to stop.
    pub(super) fn stop_kept(&self) {
        for held in locked(&self.held).values().filter(|held| held.run.is_kept_alive()) {
            held.context.stop(StopReason::Shutdown);
        }
    }

    /// Passes a heartbeat that was heard on to the handlers.
    pub(super) fn beat_runs(&self) {
        for held in locked(&self.held).values() {
            held.context.beat();
        }
    }

    /// Completes when no run is in hand.
    pub(super) async fn idle(&self) {
        while self.in_hand() > 0 {
            // the timeout covers an end between the check and the wait
            let _ = tokio::time::timeout(Duration::from_millis(50), self.ended.notified()).await;
        }
    }

    /// Hands a verdict to the flusher, or to the settler.
    pub(super) fn report(&self, finished: Finished) {
        self.unwritten.add(&finished);
        let to = if finished.row.is_some() { &self.row_results } else { &self.results };
        if let Err(unsent) = to.send(finished) {
            self.unwritten.settle([&unsent.0], &[]);
        }
    }

    /// Where runs print.
    pub(super) fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }

    /// Lets the output writer end when the last handler has.
    pub(super) fn close_outlet(&self) {
        self.outlet.close();
    }

    /// Takes a handler's duration into the average.
    pub(super) fn note_pace(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let old = self.pace_ns.load(Ordering::Relaxed);
        self.pace_ns.store(old - old / 16 + took / 16, Ordering::Relaxed);
    }

    /// How many runs to have in hand: the slots, and beyond them what fast handlers would get through in
    /// 20 ms; nothing beyond for slow ones, so that other workers get the work.
    pub(super) fn target(&self) -> usize {
        let pace = self.pace_ns.load(Ordering::Relaxed).max(1);
        let ahead = (20_000_000 / pace).saturating_mul(self.config.slots as u64);
        self.config.slots + usize::try_from(ahead).unwrap_or(usize::MAX).min(self.config.prefetch)
    }

    /// How many rows of watches to claim now: as many as there is room for, and be it crowded with runs, up to a quarter
    /// of the slots.
    pub(super) fn room_for_rows(&self) -> usize {
        let least = (self.config.slots / 4).max(1).saturating_sub(self.rows_in_hand.load(Ordering::Relaxed));
        self.room().unwrap_or(0).max(least)
    }

    /// Watches as they were planned last.
    pub(super) fn plans(&self) -> Arc<HashMap<i64, Arc<Plan>>> {
        Arc::clone(&locked(&self.plans))
    }

    /// Says what the watches are now; rescue needs to know where their rows go.
    pub(super) fn set_plans(&self, plans: HashMap<i64, Arc<Plan>>) {
        *locked(&self.plans) = Arc::new(plans);
    }

    /// How many runs to claim now, if any: slots that stand idle are filled at once; ahead of them, in lots
    /// worth a statement.
    pub(super) fn room(&self) -> Option<usize> {
        let (target, in_hand) = (self.target(), self.in_hand());
        let want = target.saturating_sub(in_hand);
        let lot = if in_hand < self.config.slots { 1 } else { (target / 2).min(CLAIM_MAX / 2) };
        (want >= lot).then_some(want.min(CLAIM_MAX))
    }
}

/// Runs in one claim.
const CLAIM_MAX: usize = 500;

/// Verdicts waiting to be written at which claiming stops.
const BACKLOG_MAX: usize = 10_000;

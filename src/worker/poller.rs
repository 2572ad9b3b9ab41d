//! The poller: claims and fires, and does what the heartbeat's hints ask for.
//!
//! Warm (a row was seen within the last second) it looks every 2 ms. Then it sleeps deeply: until a NOTIFY,
//! a hint of the heartbeat, or the next due time. Before that it tells producers to wake it, and looks
//! once more. Without any wake-up a row waits at most for the next heartbeat, a second.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use sqlx::PgConnection;
use tokio::time::{self, Instant};

use super::{
    journal,
    salvage::Salvage,
    session::{Session, within},
    share::Share,
    shared::{Phase, Polling, Shared, locked, take},
    task,
};
use crate::{
    Error,
    handler::StopReason,
    lifecycle::{
        backfill,
        claim::{Claimed, Reach, claim, claim_keyed, survey},
        fire::fire,
        limited::claim_limited,
        prune, requests,
    },
    metrics::{self, Look, PollMeter, Waker},
    migrate,
};

const SLEEP: &str = include_str!("../sql/3_sleep.sql");
const NEXT: &str = include_str!("../sql/2_next.sql");

/// Pause between looks while rows keep coming.
const WARM_PAUSE: Duration = Duration::from_millis(2);
/// How long after the last row the poller stays warm.
const WARM: Duration = Duration::from_secs(1);
/// How long it stays warm after a due time that brought nothing yet.
const WARM_AT_DUE: Duration = Duration::from_millis(100);
/// How often a deep sleeper renews its wish to be woken.
const SLEEP_AGAIN: Duration = Duration::from_secs(10);
/// How often a claim that came back short is followed by a sweep.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);
/// A full batch each time: still sweep so often, for late and returned rows.
const SWEEP_AT_LEAST: Duration = Duration::from_secs(1);
/// Schedules in one transaction.
const FIRE_BATCH: usize = 200;
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Between two questions of what comes due next.
const AHEAD_PAUSE: Duration = Duration::from_millis(50);

struct Poller {
    shared: Arc<Shared>,
    /// The first one is claimed for first; they take turns at that.
    shares: Vec<Share>,
    warm_until: Instant,
    last_sweep: Instant,
    sweep_cost: Duration,
    sleep_told: Option<Instant>,
    next_prune: Instant,
    /// Not before this time is it asked again what comes due next.
    next_ahead: Instant,
    /// When the rate of a queue with waiting runs lets the next one start.
    next_start: Option<Instant>,
    salvage: Salvage,
    meter: PollMeter,
}

/// Polls until the worker drains; after that only what the drain needs (requests).
pub(super) async fn poll(shared: Arc<Shared>, mut session: Session) {
    let now = Instant::now();
    let mut poller = Poller {
        shares: Share::all(&shared),
        shared,
        warm_until: now,
        last_sweep: now,
        sweep_cost: Duration::ZERO,
        sleep_told: None,
        next_prune: now + PRUNE_EVERY.mul_f64(fastrand::f64()),
        next_ahead: now,
        next_start: None,
        salvage: Salvage::new(now),
        meter: PollMeter::new(),
    };
    let mut failures = 0_u32;
    while poller.shared.phase() < Phase::Over {
        let (deadline, began) = (session.deadline(), Instant::now());
        poller.meter.begin(Look::Duties);
        let result = match session.connection().await {
            Ok(connection) => within(deadline, poller.pass(connection)).await,
            Err(error) => Err(error),
        };
        poller.note(began, &result);
        match session.settle(result) {
            Ok(true) => failures = 0,
            Ok(false) => {
                failures = 0;
                poller.rest(&mut session).await;
            }
            Err(error) => {
                failures += 1;
                poller.salvage.connection_broke();
                if failures == 1 {
                    tracing::warn!(worker = poller.shared.worker(), %error, "polling failed; trying again");
                }
                let pause = Duration::from_millis(20) * 2_u32.pow(failures.min(6));
                time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                poller.shared.ask(&poller.shared.duties.sweep);
            }
        }
    }
    session.close().await;
}

impl Poller {
    /// Counts a pass, and lets readiness know of it.
    fn note(&self, began: Instant, result: &sqlx::Result<bool>) {
        self.meter.took(began.elapsed());
        let mut polling = locked(&self.shared.polling);
        match result {
            Ok(_) => *polling = Polling { last: Instant::now(), problem: None },
            Err(error) => {
                self.meter.failed();
                polling.problem = Some(error.to_string());
            }
        }
    }

    /// One look at everything that was asked for. True: look again at once.
    async fn pass(&mut self, conn: &mut PgConnection) -> sqlx::Result<bool> {
        let worker = self.shared.worker();
        self.shares.iter_mut().for_each(|share| share.who.worker = worker);
        self.duties(conn).await?;
        if self.shared.phase() > Phase::Running || !self.shared.may_claim() {
            return Ok(false);
        }
        let due = self.due();
        if self.next_start.is_some_and(|at| at <= Instant::now()) {
            self.next_start = None;
            self.shared.duties.keyed.store(true, Ordering::Release);
        }
        let mut busy = false;
        if due || take(&self.shared.duties.fire) {
            busy |= self.fire(conn).await?;
        }
        busy |= self.claim(conn).await?;
        if due && !busy {
            self.warm_until = self.warm_until.max(Instant::now() + WARM_AT_DUE);
        }
        if self.shared.config.once
            && !busy
            && self.shared.in_hand() == 0
            && self.shared.rooms.are_empty()
            && self.shared.unwritten.count() == 0
        {
            self.once(conn).await?;
        }
        Ok(busy)
    }

    /// Whether a known due time has come; it is forgotten with that.
    fn due(&self) -> bool {
        let mut next = locked(&self.shared.next_due);
        let due = next.is_some_and(|at| at <= Instant::now());
        if due {
            *next = None;
            metrics::woken(Waker::Timer);
            self.shared.duties.fire.store(true, Ordering::Release);
            self.shared.duties.ahead.store(true, Ordering::Release);
        }
        due
    }

    async fn duties(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let (duties, worker) = (&self.shared.duties, self.shared.worker());
        if take(&duties.requests) {
            let asked = requests::requests(conn, worker).await?;
            for (run, reason) in asked.cancel {
                self.shared.stop_run(run, StopReason::Cancelled(reason));
            }
            for request in asked.backfills {
                if backfill::work_out(conn, request).await? {
                    duties.keyed.store(true, Ordering::Release);
                }
            }
            if asked.drain {
                tracing::info!(worker, "worker asked to drain");
                self.shared.enter(Phase::Draining);
            }
        }
        if take(&duties.resume) && prune::resume(conn, None).await? > 0 {
            duties.fire.store(true, Ordering::Release);
        }
        if self.next_ahead <= Instant::now() && take(&duties.ahead) {
            self.next_ahead = Instant::now() + AHEAD_PAUSE;
            self.learn_next(conn).await?;
        }
        if take(&self.shared.duties.rescue) {
            self.salvage.rescue(&self.shared, conn).await?;
        }
        if Instant::now() >= self.next_prune {
            self.next_prune = Instant::now() + PRUNE_EVERY.mul_f64(0.9 + fastrand::f64() / 5.0);
            if let Err(error) = prune::prune(conn, self.shared.config.retention, None).await {
                tracing::warn!(worker, %error, "pruning failed; trying again within a minute");
            }
            self.look_at_schema(conn).await;
            self.salvage.every_minute(&self.shared, conn).await?;
        }
        self.salvage.strays(&self.shared, conn).await
    }

    /// Somebody may have migrated it beneath this build.
    async fn look_at_schema(&self, conn: &mut PgConnection) {
        let problem = match migrate::check(conn).await {
            Ok(()) => None,
            Err(error @ Error::Schema(_)) => Some(error.to_string()),
            Err(_) => return,
        };
        *locked(&self.shared.schema_problem) = problem;
    }

    async fn fire(&mut self, conn: &mut PgConnection) -> sqlx::Result<bool> {
        self.meter.begin(Look::Schedules);
        let fired = fire(conn, FIRE_BATCH as i64, None).await?;
        self.meter.found(fired.schedules);
        fired.decided.iter().for_each(|(schedule, result, times)| metrics::fired(schedule, result, *times));
        for (name, reason) in &fired.invalid {
            journal::invalid(self.shared.worker(), name, reason);
        }
        if fired.schedules == 0 {
            return Ok(false);
        }
        journal::fired(self.shared.worker(), &fired.acted);
        if fired.schedules == FIRE_BATCH {
            self.shared.duties.fire.store(true, Ordering::Release);
        }
        if fired.runs > 0 {
            self.shared.duties.sweep.store(true, Ordering::Release);
            self.shared.duties.keyed.store(true, Ordering::Release);
            self.stay_warm();
        }
        self.learn_next(conn).await?;
        Ok(true)
    }

    /// When the next thing comes due: heartbeats only know what stood there a second ago.
    async fn learn_next(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let (wait, start): (Option<i64>, Option<i64>) =
            sqlx::query_as(NEXT).bind(None::<chrono::DateTime<chrono::Utc>>).fetch_one(conn).await?;
        let at = |us: i64| Instant::now() + Duration::from_micros(us.unsigned_abs());
        *locked(&self.shared.next_due) = wait.map(at);
        self.next_start = start.map(at);
        Ok(())
    }

    fn stay_warm(&mut self) {
        self.warm_until = Instant::now() + WARM;
        self.sleep_told = None;
    }

    /// Claims as much as there is room for. True: there may be more.
    async fn claim(&mut self, conn: &mut PgConnection) -> sqlx::Result<bool> {
        let Some(want) = self.shared.room() else { return Ok(false) };
        let shared = Arc::clone(&self.shared);
        let _claiming = shared.claiming.lock().await;
        if shared.phase() > Phase::Running {
            return Ok(false);
        }
        let asked = take(&self.shared.duties.sweep);
        self.meter.begin(Look::Runs);
        self.shares.rotate_left(1);
        let mut claimed = self.some(conn, Reach::Quick, want).await?;
        if self.sweep_is_due(asked, claimed < want) {
            let began = Instant::now();
            if self.survey(conn).await? {
                self.shared.duties.keyed.store(true, Ordering::Release);
            }
            if claimed < want {
                claimed += self.some(conn, Reach::Sweep, want - claimed).await?;
            }
            self.last_sweep = Instant::now();
            self.sweep_cost = began.elapsed();
        }
        if claimed < want && take(&self.shared.duties.keyed) {
            claimed += self.keyed(conn, want - claimed).await?;
        }
        self.meter.found(claimed);
        if claimed == 0 {
            if asked {
                self.shared.duties.ahead.store(true, Ordering::Release); // what it was woken for may be due later
            }
            return Ok(false);
        }
        self.stay_warm();
        Ok(claimed >= want || self.shared.duties.keyed.load(Ordering::Relaxed))
    }

    /// Claims up to `want` runs from the lanes and puts them in hand; answers how many there were.
    async fn some(&mut self, conn: &mut PgConnection, reach: Reach, want: usize) -> sqlx::Result<usize> {
        let mut left = want;
        for share in &mut self.shares {
            let limit = share.want(left);
            if limit > 0 {
                let runs = claim(conn, &share.who, &mut share.lanes, reach, limit as i64, None).await?;
                left = left.saturating_sub(start(&self.shared, runs));
            }
        }
        Ok(want - left)
    }

    /// Learns which lanes there are. True: some are of limited queues, and hold runs that are due.
    async fn survey(&mut self, conn: &mut PgConnection) -> sqlx::Result<bool> {
        let mut limited = false;
        for share in self.shares.iter_mut().filter(|share| share.want(1) > 0) {
            limited |= survey(conn, &share.who, &mut share.lanes, None).await?;
        }
        Ok(limited)
    }

    /// The same as `some` for runs with a concurrency key, then for those of limited queues.
    async fn keyed(&mut self, conn: &mut PgConnection, want: usize) -> sqlx::Result<usize> {
        let mut left = want;
        for share in &mut self.shares {
            let limit = share.want(left);
            if limit > 0 {
                let runs = claim_keyed(conn, &share.who, &mut share.lanes, limit as i64, None).await?;
                left = left.saturating_sub(start(&self.shared, runs));
            }
            let limit = share.want(left);
            if limit > 0 {
                let runs = claim_limited(conn, &share.who, limit as i64, None).await?;
                left = left.saturating_sub(start(&self.shared, runs));
            }
        }
        if left > 0 {
            self.shared.duties.ahead.store(true, Ordering::Release); // a rate may let the next one start soon
        }
        if left < want {
            self.shared.duties.keyed.store(true, Ordering::Release);
        }
        Ok(want - left)
    }

    /// A sweep finds what the marks pass over. It may cost a twentieth of the time, except when asked for.
    fn sweep_is_due(&self, asked: bool, short: bool) -> bool {
        let since = self.last_sweep.elapsed();
        let affordable = since >= self.sweep_cost * 20;
        (asked && short) || (affordable && (since >= SWEEP_AT_LEAST || (short && since >= SWEEP_PAUSE)))
    }

    /// `once`: ends the worker when a thorough look finds no run, and the watches no row.
    async fn once(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let ends = self.shared.quiet.ends();
        if !self.shared.is_quiet(ends) {
            return Ok(()); // told when a step has looked, and by each heartbeat
        }
        self.shared.duties.fire.store(true, Ordering::Release);
        if self.fire(conn).await? {
            return Ok(());
        }
        self.shared.ask(&self.shared.duties.sweep);
        self.shared.ask(&self.shared.duties.keyed);
        if !self.claim(conn).await? && self.shared.is_quiet(ends) {
            self.shared.enter(Phase::Draining);
        }
        Ok(())
    }

    /// Waits for something to do.
    async fn rest(&mut self, session: &mut Session) {
        let now = Instant::now();
        if self.shared.phase() > Phase::Running {
            // the drain still wants cancellations to be seen
            let _ = time::timeout(Duration::from_millis(200), self.shared.wake.notified()).await;
            return;
        }
        if now < self.warm_until {
            let full = self.shared.room().is_none();
            let pause = if full { Duration::from_millis(50) } else { WARM_PAUSE };
            let _ = time::timeout(pause, self.shared.wake.notified()).await;
            return;
        }
        match self.sleep_told {
            None => {
                self.tell_sleep(session).await;
                return self.look_once_more(); // a row that came before we said so woke nobody
            }
            Some(told) if told.elapsed() >= SLEEP_AGAIN => self.tell_sleep(session).await,
            Some(_) => {}
        }
        let next = *locked(&self.shared.next_due);
        let ahead = self.shared.duties.ahead.load(Ordering::Relaxed).then_some(self.next_ahead);
        let until = [next, self.next_start, self.salvage.next_look(), ahead]
            .into_iter()
            .flatten()
            .fold(self.next_prune.min(now + SLEEP_AGAIN), Ord::min);
        let _ = time::timeout_at(until, self.shared.wake.notified()).await;
    }

    /// Asks producers to wake us.
    async fn tell_sleep(&mut self, session: &mut Session) {
        let deadline = session.deadline();
        let result = match session.connection().await {
            Ok(connection) => {
                let queues = self.shared.config.queues.as_deref();
                within(deadline, sqlx::query(SLEEP).bind(queues).execute(connection)).await
            }
            Err(error) => Err(error),
        };
        self.sleep_told = Some(Instant::now());
        if let Err(error) = session.settle(result) {
            tracing::debug!(%error, "producers could not be asked to wake this worker; it polls");
        }
    }

    fn look_once_more(&self) {
        self.shared.duties.sweep.store(true, Ordering::Release);
        self.shared.duties.fire.store(true, Ordering::Release);
    }
}

/// Puts claimed runs in hand; answers how many.
fn start(shared: &Arc<Shared>, runs: Vec<Claimed>) -> usize {
    let count = runs.len();
    for run in runs {
        task::start(shared, run);
    }
    count
}

//! Control: the heartbeat, on a thread and a connection of its own, so that neither a handler that blocks
//! the runtime nor an exhausted pool can starve it.

use std::{sync::Arc, thread, time::Duration};

use tokio::{runtime, sync::oneshot, time, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::subscriber::NoSubscriber;

use super::{
    facts::{Told, skew},
    gauges,
    session::{Session, within},
    shared::{Phase, Shared, locked},
};
use crate::{
    Error, Result, clock,
    handler::StopReason,
    lifecycle::{
        register::{self, stop},
        renew::{Hints, renew, take_presence, tell},
    },
    metrics::{self, Waker, list},
};

const BEAT: Duration = Duration::from_secs(1);
/// While a peer is late, to see its death soon.
const BEAT_WATCHFUL: Duration = Duration::from_millis(500);
/// A heartbeat further than this from the one before is not on time.
const ON_TIME: Duration = Duration::from_millis(1500);

/// How long one heartbeat may hang, unless the lease is over sooner.
const DEADLINE: Duration = Duration::from_secs(5);

/// The running control thread; it ends when this is dropped, and with it the lease.
pub(super) struct Control {
    end: DropGuard,
    done: oneshot::Receiver<()>,
}

impl Control {
    /// Says goodbye to the database and ends the thread.
    pub(super) async fn stop(self) {
        drop(self.end);
        let _ = self.done.await;
    }
}

/// Starts the control thread. It beats until [`Control::stop`].
pub(super) fn start(shared: Arc<Shared>, session: Session) -> Result<Control> {
    let end = CancellationToken::new();
    let (tell, done) = oneshot::channel();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot start the control runtime", e))?;
    let session = session.bounded(DEADLINE);
    let ended = end.clone();
    // who listens to the worker's own thread hears this one too; where nobody does yet, whoever comes later
    let listener = tracing::dispatcher::get_default(|all| (!all.is::<NoSubscriber>()).then(|| all.clone()));
    thread::Builder::new()
        .name("watchbell-control".into())
        .spawn(move || {
            let beat = || runtime.block_on(beat_until(&shared, session, ended));
            match listener {
                Some(listener) => tracing::dispatcher::with_default(&listener, beat),
                None => beat(),
            }
            let _ = tell.send(());
        })
        .map_err(|e| Error::io("cannot start the control thread", e))?;
    Ok(Control { end: end.drop_guard(), done })
}

async fn beat_until(shared: &Shared, mut session: Session, end: CancellationToken) {
    let mut pause = Duration::ZERO;
    let mut told = Told::default();
    // the runs in hand were given up: the number under which they were claimed must end, or they would
    // stay claimed by a worker that is alive
    let mut lost = false;
    loop {
        tokio::select! {
            () = end.cancelled() => break,
            () = time::sleep(pause) => {}
        }
        let began = Instant::now();
        let beaten = if lost {
            reregister(shared, &mut session, &mut told).await
        } else {
            within(patience(shared), beat(shared, &mut session, &mut told)).await
        };
        gauges::set_all(shared);
        match session.settle(beaten) {
            Ok(Some(hints)) => {
                lost = false;
                note(shared, began);
                gauges::heard(shared, hints.now);
                shared.beat_runs();
                act_on(shared, &hints);
                let every = if hints.peer_late { BEAT_WATCHFUL } else { BEAT };
                pause = every.saturating_sub(began.elapsed());
            }
            Ok(None) => {
                tracing::warn!(worker = shared.worker(), "worker declared dead: dropping all runs, registering anew");
                lose(shared);
                (lost, pause) = (true, Duration::ZERO);
            }
            Err(error) => {
                let silent = failed(shared, &error);
                lost |= fence_itself(shared, silent);
                // at most 50 ms to 1 s, growing with the silence; half of it is jitter
                let most = (silent / 4).clamp(Duration::from_millis(50), BEAT);
                pause = most.mul_f64(0.5 + fastrand::f64() / 2.0);
            }
        }
    }
    if let Ok(connection) = session.connection().await {
        let _ = within(Duration::from_secs(2), stop(connection, shared.worker())).await;
    }
    session.close().await;
}

/// One heartbeat; the presence lock is taken first where this session does not hold it yet.
async fn beat(shared: &Shared, session: &mut Session, told: &mut Told) -> sqlx::Result<Option<Hints>> {
    let deadline = session.deadline();
    if !session.is_open() {
        let mut beat = locked(&shared.beat);
        beat.presence_since = None;
        beat.on_time = 0;
    }
    let worker = shared.worker();
    let present = locked(&shared.beat).presence_since.is_some();
    let phase = shared.phase();
    let connection = session.connection().await?;
    let result = within(deadline, async {
        // ours only: nobody else's lock is ever probed by taking it
        let presence = present || take_presence(connection, worker).await?;
        let queues = shared.config.queues.as_deref();
        let draining = phase >= Phase::Draining;
        let (asked, began) = (clock::wall(), Instant::now());
        let hints = renew(connection, worker, shared.config.lease, presence, draining, queues, None).await?;
        if let Some(hints) = &hints {
            let skew = skew(asked, began.elapsed(), hints.now);
            if let Some(facts) = told.news(worker, &shared.config, phase, skew) {
                tell(connection, worker, &facts).await?;
                told.note(worker, facts);
            }
        }
        Ok((presence, hints))
    })
    .await;
    let (presence, hints) = session.settle(result)?;
    if presence && !present {
        locked(&shared.beat).presence_since = Some(Instant::now());
    }
    Ok(hints)
}

fn note(shared: &Shared, began: Instant) {
    let mut beat = locked(&shared.beat);
    let on_time = began.duration_since(beat.last) <= ON_TIME;
    if std::mem::take(&mut beat.lost) {
        let silent_ms = millis(beat.last.elapsed());
        tracing::info!(worker = shared.worker(), silent_ms, "database regained");
    }
    beat.on_time = if on_time { beat.on_time.saturating_add(1) } else { 0 };
    beat.last = began;
    if beat.unbroken_since.is_none() {
        beat.unbroken_since = Some(began);
        drop(beat);
        // first sign of life, or back again: see what is there
        shared.duties.fire.store(true, std::sync::atomic::Ordering::Release);
        shared.ask(&shared.duties.sweep);
    }
}

/// Passes the hints on to the poller.
fn act_on(shared: &Shared, hints: &Hints) {
    let duties = &shared.duties;
    if hints.runs_due || hints.schedules_due {
        metrics::woken(Waker::Heartbeat);
    }
    for (hint, duty) in [
        (hints.runs_due, &duties.sweep),
        (hints.keyed, &duties.keyed),
        (hints.schedules_due, &duties.fire),
        (hints.peer_late || hints.recently_dead, &duties.rescue),
        (hints.requests, &duties.requests),
        (hints.resumes, &duties.resume),
    ] {
        if hint {
            shared.ask(duty);
        }
    }
    shared.watches.beat(hints.watches, hints.peer_late || hints.recently_dead);
    shared.tell_quiet();
    let next = hints.next_at.and_then(|at| (at - hints.now).to_std().ok()).map(|wait| Instant::now() + wait);
    let mut due = locked(&shared.next_due);
    if next != *due {
        *due = next;
        drop(due);
        shared.wake.notify_one();
    }
}

/// The lease is lost: other workers may have the runs already.
fn lose(shared: &Shared) {
    metrics::count(&list::LEASE_LOST, &[], 1);
    let mut beat = locked(&shared.beat);
    beat.unbroken_since = None;
    beat.presence_since = None;
    beat.on_time = 0;
    drop(beat);
    // out of hand first: a handler that stops at once would otherwise end unseen, and no hook would hear of it
    for held in shared.release_all() {
        held.context.stop(StopReason::LeaseLost);
        if shared.may_outlive(&held) {
            tracing::warn!(
                run = held.run.id,
                handler = held.run.handler,
                "a blocking handler lost its lease: its run starts elsewhere while its thread may go on in this process"
            );
        }
        if let Some(started) = held.started {
            shared.observer.lost(&held.run, started.elapsed());
        }
    }
}

/// Ends the old number, takes a new one, and beats under it.
async fn reregister(shared: &Shared, session: &mut Session, told: &mut Told) -> sqlx::Result<Option<Hints>> {
    // a new session, so that the old number's presence lock is not held on
    session.close().await;
    let deadline = session.deadline();
    let connection = session.connection().await?;
    let result = within(deadline, async {
        stop(connection, shared.worker()).await?;
        register::register(connection, &shared.who, None).await
    })
    .await;
    let worker = session.settle(result)?;
    tracing::info!(worker, before = shared.worker(), "worker registered anew");
    shared.renumber(worker);
    shared.duties.orphans.store(true, std::sync::atomic::Ordering::Release); // what it had given up
    shared.ask(&shared.duties.rescue);
    beat(shared, session, told).await
}

/// A heartbeat that did not come through; says how long there has been none.
fn failed(shared: &Shared, error: &sqlx::Error) -> Duration {
    let mut beat = locked(&shared.beat);
    beat.on_time = 0;
    let silent = beat.last.elapsed();
    beat.unbroken_since = None;
    if !std::mem::replace(&mut beat.lost, true) {
        tracing::warn!(worker = shared.worker(), %error, "database lost: a heartbeat failed; trying again");
    }
    silent
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Without a heartbeat for so long, the runs in hand are given up: others may soon have them.
fn fence_after(lease: Duration) -> Duration {
    lease - lease / 5
}

/// How long a heartbeat may take: one that hangs is cut off when the runs must be given up.
fn patience(shared: &Shared) -> Duration {
    let left = fence_after(shared.config.lease).saturating_sub(locked(&shared.beat).last.elapsed());
    if left.is_zero() { DEADLINE } else { left }
}

/// Gives up the runs in hand if the silence has become too long; says whether it did.
fn fence_itself(shared: &Shared, silent: Duration) -> bool {
    let lease = shared.config.lease;
    let must = silent >= fence_after(lease) && shared.in_hand() > 0;
    if must {
        tracing::error!(
            worker = shared.worker(),
            runs = shared.in_hand(),
            silent_ms = millis(silent),
            lease_ms = millis(lease),
            "no heartbeat for most of the lease: dropping all runs"
        );
        lose(shared);
    }
    must
}

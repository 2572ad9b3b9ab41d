//! Salvage: what the poller does about *orphans*, runs whose worker is gone (the rescue stage), and about
//! *strays*, claims of this worker's own that it never heard of.

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use sqlx::PgConnection;
use tokio::time::Instant;

use super::journal;
use super::shared::{Shared, take};
use crate::{
    lifecycle::{
        finish::{Finished, Recorded, finish},
        prune,
        rescue::{self, Orphan},
    },
    metrics::{self, list},
};

/// Between two looks for claims that this worker does not know of.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How long after a broken connection such claims may still appear: a statement whose client is gone ends
/// by its own timeout, 15 s.
const LOOK_ON: Duration = Duration::from_secs(20);

/// Orphans are looked for at once after a death, and again at most so often for some minutes.
const ORPHANS_PAUSE: Duration = Duration::from_secs(2);

/// A look for orphans reads all of `runs_live`: it may cost a fiftieth of the time.
const ORPHANS_SHARE: u32 = 50;

/// Where the looks stand.
pub(super) struct Salvage {
    next_look: Option<Instant>,
    look_until: Instant,
    /// What the last look found, with their fences.
    strays: HashSet<(i64, i64)>,
    next_orphans: Instant,
}

impl Salvage {
    pub(super) fn new(now: Instant) -> Self {
        Self { next_look: None, look_until: now, strays: HashSet::new(), next_orphans: now }
    }

    /// A claim may have been committed and its reply lost.
    pub(super) fn connection_broke(&mut self) {
        self.next_look = Some(Instant::now() + LOOK_PAUSE);
        self.look_until = Instant::now() + LOOK_ON;
    }

    /// When the next look for strays is due.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Both looks, whatever the hints say.
    pub(super) async fn every_minute(&mut self, shared: &Shared, conn: &mut PgConnection) -> sqlx::Result<()> {
        self.next_look.get_or_insert_with(Instant::now);
        self.next_orphans = Instant::now();
        self.rescue(shared, conn).await
    }

    /// Declares the dead, and takes back what they held.
    pub(super) async fn rescue(&mut self, shared: &Shared, conn: &mut PgConnection) -> sqlx::Result<()> {
        let mut by = shared.judgement();
        by.by_presence = by.by_presence && rescue::is_present(conn, shared.worker()).await?;
        let dead = rescue::declare_dead(conn, shared.worker(), by, None).await?;
        for dead in &dead {
            tracing::warn!(
                dead = dead.id,
                name = dead.name,
                host = dead.host,
                pid = dead.pid,
                silent_ms = u64::try_from(dead.silent.as_millis()).unwrap_or(u64::MAX),
                worker = shared.worker(),
                "worker died"
            );
        }
        metrics::count(&list::LEASE_EXPIRATIONS, &[], dead.len() as u64);
        let asked = take(&shared.duties.orphans);
        if dead.is_empty() && !asked && Instant::now() < self.next_orphans {
            return Ok(());
        }
        shared.abandoned.notify_one(); // the dead may have had watched rows too
        let (began, mut recovered) = (Instant::now(), 0);
        loop {
            let orphans = rescue::orphans(conn).await?;
            let found = orphans.len();
            let pause = (began.elapsed() * ORPHANS_SHARE).max(ORPHANS_PAUSE);
            self.next_orphans = Instant::now() + pause;
            if found == 0 {
                break;
            }
            let recorded = record(shared, conn, &orphans).await?;
            metrics::count(&list::RUNS_RECOVERED, &[], recorded.accepted.len() as u64);
            look_around(shared);
            recovered += recorded.accepted.len();
            if recorded.accepted.len() < found {
                self.next_orphans = Instant::now(); // some are held by someone else: the next beat's pass
                break;
            }
        }
        // what was aimed at the dead waits for nobody now: whoever took it back ends it, be it another that told of
        // the death
        if (recovered > 0 || !dead.is_empty()) && prune::end_stranded(conn, true, None).await? > 0 {
            shared.duties.fire.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Gives back claims whose reply was lost: without this they would stay as long as this worker lives.
    ///
    /// Only what two looks find: at the first, a verdict may be between the task and the flusher. Verdicts that wait, as
    /// long as somebody holds what they are about, keep no other from being found.
    pub(super) async fn strays(&mut self, shared: &Shared, conn: &mut PgConnection) -> sqlx::Result<()> {
        if self.next_look.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        self.next_look = Some(Instant::now() + LOOK_PAUSE);
        if !shared.may_claim() {
            return Ok(());
        }
        let found = rescue::strays(conn, shared.worker(), &shared.known_ids()).await?;
        let (known, new): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|stray| self.strays.contains(&(stray.finished.id, stray.finished.fence)));
        self.strays = new.iter().map(|stray| (stray.finished.id, stray.finished.fence)).collect();
        if new.is_empty() && Instant::now() > self.look_until {
            self.next_look = None;
        }
        if !known.is_empty() {
            let worker = shared.worker();
            tracing::warn!(runs = known.len(), worker, "claims whose reply was lost are given back");
            record(shared, conn, &known).await?;
            look_around(shared);
        }
        Ok(())
    }
}

/// Writes their verdicts; counts and tells those that were accepted.
async fn record(shared: &Shared, conn: &mut PgConnection, orphans: &[Orphan]) -> sqlx::Result<Recorded> {
    let recorded = finish(conn, orphans.iter().map(|orphan| orphan.finished.clone()).collect(), None).await?;
    for orphan in orphans.iter().filter(|orphan| recorded.accepted.contains(&orphan.finished.id)) {
        let meter = shared.meters.of(&orphan.queue, &orphan.handler);
        Finished { meter, ..orphan.finished.clone() }.count();
        journal::salvaged(orphan);
    }
    journal::paused(shared.worker(), &recorded.paused);
    Ok(recorded)
}

/// Runs came back: the next pass looks everywhere.
fn look_around(shared: &Shared) {
    shared.duties.sweep.store(true, Ordering::Release);
    shared.duties.keyed.store(true, Ordering::Release);
    shared.duties.fire.store(true, Ordering::Release);
}

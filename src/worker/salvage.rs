//! Salvage: what the poller does about *orphans*, runs whose worker is gone (the rescue stage), and about
//! *strays*, claims of this worker's own that it never heard of.

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use sqlx::PgConnection;
use tokio::time::Instant;

use super::{
    claims,
    shared::{Shared, take},
};
use crate::lifecycle::{finish::finish, rescue};

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
    /// The same of watched rows.
    stray_rows: HashSet<(i64, i64)>,
    next_orphans: Instant,
}

impl Salvage {
    pub(super) fn new(now: Instant) -> Self {
        Self { next_look: None, look_until: now, strays: HashSet::new(), stray_rows: HashSet::new(), next_orphans: now }
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
        self.rescue(shared, conn).await?;
        claims::sweep(shared, conn).await
    }

    /// Declares the dead, and takes back what they held.
    pub(super) async fn rescue(&mut self, shared: &Shared, conn: &mut PgConnection) -> sqlx::Result<()> {
        let mut by = shared.judgement();
        by.by_presence = by.by_presence && rescue::is_present(conn, shared.worker()).await?;
        let dead = rescue::declare_dead(conn, shared.worker(), by, None).await?;
        for dead in &dead {
            tracing::warn!(
                dead = dead.id, name = dead.name, host = dead.host, pid = dead.pid, silent = ?dead.silent,
                "a worker died"
            );
        }
        let asked = take(&shared.duties.orphans);
        if dead.is_empty() && !asked && Instant::now() < self.next_orphans {
            return Ok(());
        }
        let began = Instant::now();
        loop {
            let orphans = rescue::orphans(conn).await?;
            let found = orphans.len();
            let pause = (began.elapsed() * ORPHANS_SHARE).max(ORPHANS_PAUSE);
            self.next_orphans = Instant::now() + pause;
            if found == 0 {
                if !claims::rescue(shared, conn).await? {
                    self.next_orphans = Instant::now();
                }
                return Ok(());
            }
            let recorded = finish(conn, orphans, None).await?;
            tracing::warn!(runs = recorded.accepted.len(), "runs of dead workers taken back");
            look_around(shared);
            if recorded.accepted.len() < found {
                self.next_orphans = Instant::now(); // some are held by someone else: the next beat's pass
                return Ok(());
            }
        }
    }

    /// Gives back claims whose reply was lost: without this they would stay as long as this worker lives.
    ///
    /// Only what two looks find: at the first, a verdict may be between the task and the flusher.
    pub(super) async fn strays(&mut self, shared: &Shared, conn: &mut PgConnection) -> sqlx::Result<()> {
        if self.next_look.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        self.next_look = Some(Instant::now() + LOOK_PAUSE);
        if !shared.may_claim() || shared.backlog.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        claims::strays(shared, conn, &mut self.stray_rows).await?;
        let found = rescue::strays(conn, shared.worker(), &shared.held_ids()).await?;
        let (known, new): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|stray| self.strays.contains(&(stray.id, stray.fence)));
        self.strays = new.iter().map(|stray| (stray.id, stray.fence)).collect();
        if new.is_empty() && self.stray_rows.is_empty() && Instant::now() > self.look_until {
            self.next_look = None;
        }
        if !known.is_empty() {
            tracing::warn!(runs = known.len(), "claims whose reply was lost are given back");
            finish(conn, known, None).await?;
            look_around(shared);
        }
        Ok(())
    }
}

/// Runs came back: the next pass looks everywhere.
fn look_around(shared: &Shared) {
    shared.duties.sweep.store(true, Ordering::Release);
    shared.duties.keyed.store(true, Ordering::Release);
    shared.duties.fire.store(true, Ordering::Release);
}

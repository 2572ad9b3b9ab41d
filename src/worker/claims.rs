//! Claims of watched rows that nobody works on: those of dead workers, those of this worker that it never heard of,
//! and those whose rows moved on. The salvage of runs, for rows.
//!
//! A task and a connection of its own, since it ends rows of people's own tables: a slow trigger there is not to hold
//! up runs. It sleeps until it is told of a death, or of a connection that broke, and looks once a minute anyway.
//! While it asks for strays no row is claimed here, so that a claim whose reply is under way is not among them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sqlx::PgConnection;
use tokio::time::{self, Instant};

use super::{
    session::{Session, within},
    shared::{Phase, Shared},
};
use crate::{
    error::{LOCKED, is_transient},
    lifecycle::{
        finish::Finished,
        leased::{self, Became, Orphan, RowClaim},
    },
    run::transition::Event,
    watch::{Plan, Watch},
};

type Plans = HashMap<i64, Arc<Plan>>;

const EVERY: Duration = Duration::from_secs(60);
/// How long claims may be swept, up to the start of the last watch.
const SWEEP_MAX: Duration = Duration::from_secs(2);
/// How long all watches may be looked at for faults, up to the start of the last.
const FAULTS_MAX: Duration = Duration::from_secs(2);
/// After a look that could not end all it found, or found what may only be on its way.
const AGAIN: Duration = Duration::from_secs(1);

/// Looks after claims until the worker is over.
pub(super) async fn tend(shared: Arc<Shared>, mut session: Session) {
    let mut seen = HashSet::new();
    let mut next_sweep = Instant::now() + EVERY.mul_f64(0.5 + fastrand::f64());
    let mut pause = EVERY;
    // the last watch may have been deleted with rows in work
    let mut has_begun = false;
    loop {
        tokio::select! {
            () = shared.abandoned.notified() => {}
            () = time::sleep(pause) => {}
            () = shared.at_least(Phase::Over) => break,
        }
        pause = EVERY;
        has_begun |= !shared.plans().is_empty();
        if !has_begun {
            continue;
        }
        let is_time = next_sweep <= Instant::now();
        if is_time {
            next_sweep = Instant::now() + EVERY.mul_f64(0.9 + fastrand::f64() / 5.0);
        }
        let deadline = session.deadline();
        let result = match session.connection().await {
            Ok(connection) => within(deadline, pass(&shared, connection, &mut seen, is_time)).await,
            Err(error) => Err(error),
        };
        match session.settle(result) {
            Ok(all) => pause = if all { EVERY } else { AGAIN },
            Err(error) => {
                tracing::warn!(%error, "claims of rows could not be looked after; trying again");
                pause = AGAIN;
            }
        }
    }
    session.close().await;
}

/// One pass. False: look again soon.
async fn pass(
    shared: &Shared,
    conn: &mut PgConnection,
    seen: &mut HashSet<(i64, i64)>,
    sweeps: bool,
) -> sqlx::Result<bool> {
    let rescued = rescue(shared, conn).await?;
    strays(shared, conn, seen).await?;
    if sweeps || !rescued {
        settle_remains(conn, sweeps).await;
    }
    if sweeps {
        sweep(shared, conn).await?;
    }
    Ok(rescued && seen.is_empty())
}

/// Takes back what dead workers had claimed. True: all of it. What somebody has locked, or of which the watch cannot be
/// planned, is passed over until the next pass.
async fn rescue(shared: &Shared, conn: &mut PgConnection) -> sqlx::Result<bool> {
    let (mut all, mut last) = (true, None);
    loop {
        let orphans = leased::orphans(conn, last.as_ref()).await?;
        if orphans.is_empty() {
            return Ok(all);
        }
        let settled = end(shared, conn, &orphans, &Event::WorkerLost).await?;
        if settled > 0 {
            shared.watching.notify_one();
        }
        all &= settled == orphans.len();
        last = orphans.into_iter().next_back();
    }
}

/// Gives back claims of this worker whose reply was lost: what this look finds and the one before it did.
async fn strays(shared: &Shared, conn: &mut PgConnection, seen: &mut HashSet<(i64, i64)>) -> sqlx::Result<()> {
    if !shared.may_claim() {
        return Ok(());
    }
    let found = {
        // a claim whose reply is under way is no stray, however long this worker was frozen in between
        let _claiming = shared.claiming_rows.lock().await;
        let held: Vec<i64> = shared.known_ids().into_iter().map(|id| -id).collect();
        leased::strays(conn, shared.worker(), &held).await?
    };
    let (known, new): (Vec<_>, Vec<_>) = found.into_iter().partition(|stray| seen.contains(&stray.mark()));
    *seen = new.iter().map(Orphan::mark).collect();
    if !known.is_empty() {
        tracing::warn!(rows = known.len(), "claims of rows whose reply was lost are given back");
        end(shared, conn, &known, &Event::GivenBack).await?;
        shared.watching.notify_one();
    }
    Ok(())
}

/// Clears away what waits for rows that will not come, and looks for rows that wait for nobody.
async fn sweep(shared: &Shared, conn: &mut PgConnection) -> sqlx::Result<()> {
    let plans = shared.plans();
    if !leased::forget(conn).await? {
        return Ok(());
    }
    let began = Instant::now();
    for plan in turned(&plans) {
        if began.elapsed() > SWEEP_MAX {
            break;
        }
        match leased::sweep(conn, plan).await {
            Ok(swept) if swept.deleted > 0 => {
                tracing::info!(watch = plan.watch.name, claims = swept.deleted, "claims of rows that moved on deleted");
            }
            Ok(_) => {}
            // another watch is not to suffer for it; a lost connection is found by whoever uses it next
            Err(error) => tracing::warn!(watch = plan.watch.name, %error, "its claims could not be swept"),
        }
    }
    find_faults(&plans, conn).await;
    Ok(())
}

/// Rows of watches that were deleted while a worker had them, which died.
async fn settle_remains(conn: &mut PgConnection, looks: bool) {
    match leased::settle_remains(conn, looks).await {
        Ok(0) => {}
        Ok(rows) => tracing::info!(target: "watchbell::watch", rows, "rows of deleted watches put back"),
        Err(error) => tracing::debug!(%error, "rows of deleted watches could not be looked at"),
    }
}

/// The plans from another one on each time, so that slow tables do not always keep the same ones from being looked at.
fn turned(plans: &Plans) -> impl Iterator<Item = &Arc<Plan>> {
    plans.values().cycle().skip(fastrand::usize(..plans.len().max(1))).take(plans.len())
}

/// Looks for rows that wait for nobody.
async fn find_faults(plans: &Plans, conn: &mut PgConnection) {
    let began = Instant::now();
    for plan in turned(plans) {
        if began.elapsed() > FAULTS_MAX {
            break;
        }
        if let Err(error) = leased::find_faults(conn, plan.watch.id).await {
            tracing::debug!(watch = plan.watch.name, %error, "its rows could not be looked at for faults");
        }
    }
}

/// Ends claims; answers how many.
async fn end(shared: &Shared, conn: &mut PgConnection, orphans: &[Orphan], event: &Event) -> sqlx::Result<usize> {
    let (plans, mut settled) = (shared.plans(), 0);
    let mut verdicts: Vec<(Arc<RowClaim>, Finished)> = vec![];
    for orphan in orphans {
        match orphan.verdict(&plans, event.clone()) {
            Some(finished) => verdicts.extend(finished.row.clone().map(|row| (row, finished))),
            None if plans.contains_key(&orphan.watch) => {
                orphan.release(conn, "its watch has no such step any more").await?;
                settled += 1;
            }
            None => {}
        }
    }
    let same = |a: &(Arc<RowClaim>, Finished), b: &(Arc<RowClaim>, Finished)| {
        Arc::ptr_eq(&a.0.plan, &b.0.plan) && a.0.step == b.0.step
    };
    let mut locked = None;
    for group in verdicts.chunk_by(same) {
        let watch = &group[0].0.plan.watch;
        if locked == Some(watch.id) {
            continue;
        }
        let parts = match finish(shared, conn, group).await {
            // one of them may be to blame: the others shall not wait for it
            Err(error) if group.len() > 1 && !is_transient(&error) => group.chunks(1),
            ended => {
                settled += passed_over(watch, ended, &mut locked)?;
                continue;
            }
        };
        for one in parts {
            settled += passed_over(watch, finish(shared, conn, one).await, &mut locked)?;
        }
    }
    Ok(settled)
}

/// Ends claims of one step; answers how many.
async fn finish(shared: &Shared, conn: &mut PgConnection, group: &[(Arc<RowClaim>, Finished)]) -> sqlx::Result<usize> {
    let batch: Vec<_> = group.iter().map(|(row, finished)| (&**row, finished)).collect();
    let became = leased::finish(conn, group[0].0.planned(), &batch).await?;
    let moved = group.iter().zip(&became).filter(|(_, became)| **became == Became::Moved);
    moved.for_each(|((row, finished), _)| shared.row_journal.ended(row, finished));
    Ok(became.iter().filter(|became| **became != Became::Held).count())
}

/// What is wrong with one watch keeps nobody from the claims of the others.
fn passed_over(watch: &Watch, ended: sqlx::Result<usize>, locked: &mut Option<i64>) -> sqlx::Result<usize> {
    let Err(error) = ended else { return ended };
    if error.as_database_error().and_then(|answer| answer.code()).as_deref() == Some(LOCKED) {
        tracing::debug!(watch = watch.name, "its table is locked: its claims are ended later");
        *locked = Some(watch.id);
        return Ok(0);
    }
    if is_transient(&error) {
        return Err(error);
    }
    tracing::error!(watch = watch.name, %error, "its claims could not be ended; trying again");
    Ok(0)
}

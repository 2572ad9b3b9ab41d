//! What the poller does about claims of watched rows that nobody works on: those of dead workers, and those of this
//! worker that it never heard of. The salvage of runs, for rows.

use std::{collections::HashMap, collections::HashSet, sync::Arc};

use sqlx::PgConnection;

use super::shared::Shared;
use crate::{
    lifecycle::{
        finish::Finished,
        leased::{self, Became, Orphan, RowClaim},
    },
    run::transition::Event,
    watch::Plan,
};

type Plans = HashMap<i64, Arc<Plan>>;

/// Takes back what dead workers had claimed. True: all of it.
pub(super) async fn rescue(shared: &Shared, conn: &mut PgConnection) -> sqlx::Result<bool> {
    let plans = shared.plans();
    if plans.is_empty() {
        return Ok(true);
    }
    loop {
        let orphans = leased::orphans(conn).await?;
        if orphans.is_empty() {
            return Ok(true);
        }
        let found = orphans.len();
        let settled = end(conn, &plans, orphans, &Event::WorkerLost).await?;
        if settled > 0 {
            tracing::warn!(rows = settled, "watched rows of dead workers taken back");
            shared.watching.notify_one();
        }
        if settled < found {
            return Ok(false); // somebody has locked them, or their watch cannot be planned: the next pass
        }
    }
}

/// Gives back claims of this worker whose reply was lost: what this look finds and the one before it did.
pub(super) async fn strays(
    shared: &Shared,
    conn: &mut PgConnection,
    seen: &mut HashSet<(i64, i64)>,
) -> sqlx::Result<()> {
    let plans = shared.plans();
    if plans.is_empty() {
        return Ok(());
    }
    let held: Vec<i64> = shared.held_ids().into_iter().map(|id| -id).collect();
    let found = leased::strays(conn, shared.worker(), &held).await?;
    let (known, new): (Vec<_>, Vec<_>) = found.into_iter().partition(|stray| seen.contains(&stray.mark()));
    *seen = new.iter().map(Orphan::mark).collect();
    if !known.is_empty() {
        tracing::warn!(rows = known.len(), "claims of rows whose reply was lost are given back");
        end(conn, &plans, known, &Event::GivenBack).await?;
        shared.watching.notify_one();
    }
    Ok(())
}

/// Clears away, about once a minute, what waits for rows that will not come.
pub(super) async fn sweep(shared: &Shared, conn: &mut PgConnection) -> sqlx::Result<()> {
    let plans = shared.plans();
    if plans.is_empty() || !leased::forget(conn).await? {
        return Ok(());
    }
    for plan in plans.values() {
        match leased::sweep(conn, plan).await {
            Ok(swept) if swept.deleted > 0 => {
                tracing::info!(watch = plan.watch.name, claims = swept.deleted, "claims of rows that moved on deleted");
            }
            Ok(_) => {}
            // another watch is not to suffer for it; a lost connection is found by whoever uses it next
            Err(error) => tracing::warn!(watch = plan.watch.name, %error, "its claims could not be swept"),
        }
    }
    Ok(())
}

/// Ends claims; answers how many.
async fn end(conn: &mut PgConnection, plans: &Plans, orphans: Vec<Orphan>, event: &Event) -> sqlx::Result<usize> {
    let mut settled = 0;
    let mut verdicts: Vec<(Arc<RowClaim>, Finished)> = vec![];
    for orphan in orphans {
        match orphan.verdict(plans, event.clone()) {
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
    for group in verdicts.chunk_by(same) {
        let batch: Vec<_> = group.iter().map(|(row, finished)| (&**row, finished)).collect();
        let Some((row, _)) = batch.first() else { continue };
        match leased::finish(conn, row.planned(), &batch).await {
            Ok(became) => settled += became.iter().filter(|became| **became != Became::Held).count(),
            Err(error) if crate::error::is_transient(&error) => return Err(error),
            Err(error) => {
                tracing::error!(watch = row.plan.watch.name, %error, "its claims could not be ended; trying again");
            }
        }
    }
    Ok(settled)
}

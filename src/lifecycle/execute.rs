//! Execute: the handler, in this process.
//!
//! **In** a claimed run. **Out** a verdict for the finish stage; for a transactional handler the end itself,
//! in the handler's own transaction. **Lock** none; a transactional handler holds what it writes, and its
//! schedule only while the end is written. **Crash** the run stays `running` under a worker that is gone,
//! and comes back by rescue.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::time;

use super::{
    claim::Claimed,
    finish::{Finished, finish_within},
};
use crate::{
    handler::{
        Around, Boxed, Context, Facts, Outcome, Registry, TransactionalHandler, Tx, Work,
        call::{Ended, Patience, call},
    },
    retry::RetryPolicy,
    run::transition::{Event, decide},
};

/// How often an end is tried again while somebody else holds its schedule.
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// How long rolling back may take before the connection is left to its pool.
const ROLLBACK_MAX: Duration = Duration::from_secs(5);

/// What remains to be done about a run that was executed.
#[derive(Debug)]
pub enum Executed {
    /// To be recorded by the finish stage.
    Verdict(Finished),
    /// Recorded already, with the handler's own writes. False: it was superseded, and so were they.
    Recorded(bool),
    /// Nothing: the lease was lost, another worker has the run.
    Nothing,
}

/// What a run is executed with.
#[derive(Debug, Clone)]
pub struct Executor {
    /// Handlers by name.
    pub registry: Registry,
    /// Code around every handler.
    pub around: Around,
    /// Connections for transactional handlers.
    pub pool: PgPool,
    /// How long a handler that was asked to stop may take before its future is dropped.
    pub grace: Duration,
    /// The time at which transactional handlers end their runs; `None` = the database's clock.
    pub now: Option<DateTime<Utc>>,
}

/// The columns of a run that its handler sees.
pub(crate) fn facts(run: &Claimed, timeout: Option<Duration>) -> Facts {
    Facts {
        run_id: run.id,
        attempt: run.attempt,
        max_attempts: run.max_attempts,
        fence: run.fence,
        worker: run.claimed_by,
        handler: run.handler.clone(),
        queue: run.queue.clone(),
        schedule: run.schedule_name.clone(),
        fire_at: run.fire_at,
        run_at: run.run_at,
        payload: run.payload.as_str().into(),
        timeout,
    }
}

/// Runs one attempt to its end. `waited` is the time between the claim and now.
pub async fn execute(executor: &Executor, run: &Claimed, waited: Duration, ctx: &Context) -> Executed {
    let entry = executor.registry.get(&run.handler);
    let retry = match &run.row {
        Some(row) => row.planned().step.retry.clone(),
        None => entry.map(|entry| entry.options.retry_of(run.retry.as_deref())).unwrap_or_default(),
    };
    let verdict = |event| Executed::Verdict(Finished::of(run, waited, decide(run.standing(), event, &retry)));
    let Some(entry) = entry else { return verdict(Event::GivenBack) };
    if expired(run, waited) {
        return verdict(Event::Expired);
    }
    let ended = match &entry.work {
        Work::Plain(handler) => {
            let patience = if handler.stops_when_dropped() { Patience::For(executor.grace) } else { Patience::Endless };
            let (handler, inner) = (Arc::clone(handler), ctx.clone());
            if executor.around.is_empty() {
                call(async move { handler.call(inner).await }, ctx, patience).await
            } else {
                let work = move |ctx| -> Boxed<'static, _> { Box::pin(async move { handler.call(ctx).await }) };
                call(executor.around.call(inner, work), ctx, patience).await
            }
        }
        // boxed: its state is many times that of a plain call, and every task would carry it
        Work::Transactional(handler) => match Box::pin(transactional(executor, handler, run, waited, ctx)).await {
            Ok(accepted) => return Executed::Recorded(accepted),
            Err(ended) => ended,
        },
    };
    if let Ended::Returned(Outcome::Recorded(accepted)) = ended {
        return Executed::Recorded(accepted);
    }
    ended.event(ctx).map_or(Executed::Nothing, verdict)
}

/// Whether its start deadline has passed, so that it will not be called any more.
pub(crate) fn expired(run: &Claimed, waited: Duration) -> bool {
    let waited = TimeDelta::from_std(waited).unwrap_or_default();
    run.start_deadline.is_some_and(|deadline| run.claimed_at + waited > deadline)
}

/// Runs a transactional handler and, when it succeeds, records its end in the same transaction.
async fn transactional(
    executor: &Executor,
    handler: &Arc<dyn TransactionalHandler>,
    run: &Claimed,
    waited: Duration,
    ctx: &Context,
) -> Result<bool, Ended> {
    let failed = |error: sqlx::Error| Ended::Returned(Outcome::Failed(error.into()));
    let mut transaction = executor.pool.begin().await.map_err(failed)?;
    let backend = prepare(&mut transaction, ctx, executor.now).await.map_err(failed)?;
    let (tx, lent) = Tx::lend(transaction);
    let (handler, inner) = (Arc::clone(handler), ctx.clone());
    let patience = Patience::For(executor.grace);
    let ended = if executor.around.is_empty() {
        call(async move { handler.call(tx, inner).await }, ctx, patience).await
    } else {
        let work = move |ctx| -> Boxed<'static, _> { Box::pin(async move { handler.call(tx, ctx).await }) };
        call(executor.around.call(inner, work), ctx, patience).await
    };
    if matches!(ended, Ended::Dropped) {
        // its statement may still be going on in the server, and would hold up the rollback
        let _ = sqlx::query("select pg_cancel_backend($1)").bind(backend).execute(&executor.pool).await;
    }
    let Some(transaction) = lent.back() else {
        let kept = "the handler kept its transaction beyond its end";
        return Err(Ended::Returned(Outcome::Failed(kept.into())));
    };
    if !matches!(ended, Ended::Returned(Outcome::Done)) {
        let _ = time::timeout(ROLLBACK_MAX, transaction.rollback()).await;
        return Err(ended);
    }
    let verdict = decide(run.standing(), Event::Succeeded, &RetryPolicy::default());
    let finished = Finished::of(run, waited, verdict);
    record(transaction, finished, executor.now, ctx).await.map_err(failed)
}

/// Bounds what the transaction may take in the server; returns the backend's process id.
async fn prepare(
    transaction: &mut Transaction<'static, Postgres>,
    ctx: &Context,
    now: Option<DateTime<Utc>>,
) -> sqlx::Result<i32> {
    if let Some(now) = now {
        let set = sqlx::query("select set_config('watchbell.now', $1, true)").bind(now.to_rfc3339());
        set.execute(&mut **transaction).await?;
    }
    let limit = ctx.remaining().map_or(0, |left| left.as_millis().max(1));
    let (backend, _): (i32, String) =
        sqlx::query_as("select pg_backend_pid(), set_config('statement_timeout', $1, true)")
            .bind(format!("{limit}ms"))
            .fetch_one(&mut **transaction)
            .await?;
    Ok(backend)
}

/// Ends the run in the handler's transaction and commits both.
async fn record(
    mut transaction: Transaction<'static, Postgres>,
    finished: Finished,
    now: Option<DateTime<Utc>>,
    ctx: &Context,
) -> sqlx::Result<bool> {
    loop {
        let recorded = finish_within(&mut transaction, finished.clone(), now).await?;
        if recorded.accepted.contains(&finished.id) {
            transaction.commit().await?;
            return Ok(true);
        }
        if recorded.held.is_empty() || ctx.is_cancelled() {
            transaction.rollback().await?;
            return if recorded.held.is_empty() {
                Ok(false)
            } else {
                Err(sqlx::Error::Protocol("stopped while its schedule was locked by another session".into()))
            };
        }
        time::sleep(HELD_PAUSE).await;
    }
}

//! One call of a handler inside a batch's transaction, and the move of its rows.
//!
//! **In** rows of the batch, the transaction behind its savepoint. **Out** the same transaction: with the handler's
//! writes and the rows moved on, or as it was before. **Lock** what the handler writes, to the batch's commit. **Crash**
//! as the batch's.

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Postgres, Transaction};
use tokio::{
    pin,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::{Batch, Got};
use crate::{
    handler::{
        Boxed, Context, Facts, Outcome, StopReason, Taken, Tx,
        call::{Ended, Patience, call},
    },
    lifecycle::watch_moved::{move_rows, stays},
    metrics,
    run::transition::Event,
    watch::plan::words,
};

/// How long going back to a savepoint may take when a handler was dropped in the middle of a statement.
const BACK_MAX: Duration = Duration::from_secs(5);

/// What became of a call.
pub(super) enum Called {
    /// Its rows were moved on.
    Moved,
    /// It did not succeed; the transaction is as before.
    Failed(Event),
    /// The worker stops; the transaction is as before.
    Stopped,
    /// It did not succeed, and the transaction is lost.
    Lost(Event),
}

type Back = Option<Transaction<'static, Postgres>>;

impl Batch<'_> {
    /// Calls the handler for these rows and moves them on.
    pub(super) async fn call(
        &self,
        transaction: Transaction<'static, Postgres>,
        rows: &[Got],
    ) -> sqlx::Result<(Called, Back)> {
        let ctx = self.context(rows);
        let (tx, lent) = Tx::lend(transaction);
        let began = Instant::now();
        let ended = self.ended(tx, &ctx).await;
        let took = began.elapsed();
        metrics::watch_called(&self.line.plan.watch.name, &self.planned.step.from, took);
        if matches!(ended, Ended::Dropped) {
            // its statement may still be going on in the server, and would hold up the way back
            let cancel = sqlx::query("select pg_cancel_backend($1)").bind(self.backend);
            let _ = cancel.execute(&self.line.own).await;
        }
        let event = ended.event(&ctx).map(|event| self.bounded(event, took));
        let Some(mut transaction) = lent.back() else {
            // its locks would keep the row from being charged with that, and from being tried again
            let end = sqlx::query("select pg_terminate_backend($1, 1000)").bind(self.backend);
            let _ = end.execute(&self.line.own).await;
            let message = "the handler kept its transaction beyond its end".to_owned();
            return Ok((Called::Lost(Event::Failed { kind: "error", message, after: None }), None));
        };
        let called = match event {
            Some(Event::Succeeded) => match self.move_on(&mut transaction, rows).await {
                Ok(Ok(())) => return Ok((Called::Moved, Some(transaction))),
                Ok(Err(said)) => {
                    let message = format!("it cannot become \"{}\": {said}", self.planned.step.to);
                    Called::Failed(Event::Failed { kind: "error", message, after: None })
                }
                Err(error) => return Err(error),
            },
            None | Some(Event::Interrupted) => Called::Stopped,
            Some(event) => Called::Failed(event),
        };
        let back = sqlx::raw_sql("rollback to savepoint watchbell").execute(&mut *transaction);
        match (time::timeout(BACK_MAX, back).await, called) {
            (Ok(Ok(_)), called) => Ok((called, Some(transaction))),
            // the handler ended the transaction by itself, or does not let go of it
            (Ok(Err(sqlx::Error::Database(_))) | Err(_), Called::Failed(event)) => Ok((Called::Lost(event), None)),
            (Ok(Err(error)), _) => Err(error),
            (Err(_), _) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// What ran into the limit says so, however the server or the handler put it.
    fn bounded(&self, event: Event, took: Duration) -> Event {
        let limit = self.line.limit;
        match event {
            Event::Failed { kind: "error" | "timeout", .. } if took >= limit && self.timeout == limit => {
                let limit = words(limit);
                let message = format!("took longer than {limit}, the limit of transactional mode; use mode leased");
                Event::Failed { kind: "timeout", message, after: None }
            }
            event => event,
        }
    }

    async fn ended(&self, tx: Tx, ctx: &Context) -> Ended {
        let (executor, patience) = (self.executor, Patience::For(self.executor.grace));
        let (handler, inner) = (Arc::clone(self.handler), ctx.clone());
        let work: Boxed<'static, Outcome> = if executor.around.is_empty() {
            Box::pin(async move { handler.call(tx, inner).await })
        } else {
            let work = move |ctx| -> Boxed<'static, _> { Box::pin(async move { handler.call(tx, ctx).await }) };
            executor.around.call(inner, work)
        };
        ctx.begin();
        let span = ctx.taken().map_or_else(Span::none, |taken| taken.span(ctx.attempt()));
        let work = call(work, ctx, patience).instrument(span);
        pin!(work);
        tokio::select! {
            biased;
            ended = &mut work => ended,
            () = self.ask.stop.cancelled() => {
                ctx.stop(StopReason::Shutdown);
                work.await
            }
        }
    }

    /// The rows reach their next state, whatever their table's own constraints say of it, and a new savepoint stands
    /// behind them; or why their table does not let them go.
    async fn move_on(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
        rows: &[Got],
    ) -> sqlx::Result<Result<(), String>> {
        let (plan, step) = (&self.line.plan, &self.planned.step);
        let keys: Vec<_> = rows.iter().map(|row| row.key.clone()).collect();
        // what waits for the end of the transaction is checked now, while these rows alone are to blame; one round trip
        let deferred = plan.table.deferred.as_ref().map(|names| format!("set constraints {names} deferred; "));
        let behind = format!(
            "set constraints all immediate; release savepoint watchbell; {}savepoint watchbell",
            deferred.unwrap_or_default()
        );
        let moved = async {
            if !move_rows(&mut *transaction, plan, self.planned, &keys, &step.to).await? {
                return Ok(Err(stays(&step.from)));
            }
            sqlx::raw_sql(AssertSqlSafe(behind)).execute(&mut **transaction).await?;
            Ok(Ok(()))
        };
        match moved.await {
            Err(sqlx::Error::Database(answer)) => Ok(Err(answer.message().to_owned())),
            moved => moved,
        }
    }

    fn context(&self, rows: &[Got]) -> Context {
        let (line, planned) = (self.line, self.planned);
        let statements = planned.statements.clone();
        let taken = Taken {
            watch: line.plan.watch.name.clone(),
            step: planned.step.from.clone(),
            keys: rows.iter().map(|row| row.key.0.clone()).collect(),
            rows: rows.iter().map(|row| row.row.clone()).collect(),
            claimed: Box::new(move |first| statements.claimed(first)),
        };
        let facts = Facts {
            run_id: 0,
            attempt: rows.iter().map(|row| row.attempts).max().unwrap_or(0) + 1,
            max_attempts: planned.step.max_attempts,
            fence: 0,
            worker: self.ask.worker,
            handler: planned.step.handler.clone(),
            queue: String::new(),
            schedule: None,
            fire_at: None,
            run_at: self.now,
            payload: planned.step.payload.as_str().into(),
            timeout: Some(self.timeout),
        };
        let states = self.executor.registry.states();
        Context::new(facts, CancellationToken::new(), None, states).about(Arc::new(taken))
    }
}

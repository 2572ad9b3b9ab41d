//! One task per run: wait for a slot, execute, hand over the verdict.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::SemaphorePermit,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use tracing::Instrument;

use super::{
    alone::Company,
    journal::{self, RowJournal},
    room::Place,
    shared::{Phase, Shared},
};
use crate::{
    handler::Context,
    lifecycle::{
        claim::Claimed,
        execute::{Executed, execute, expired, facts},
        finish::Finished,
    },
    metrics::{self, Meter},
    retry::RetryPolicy,
    run::{
        Status,
        transition::{Event, decide},
    },
};

/// A claimed run that has not started after this long is given back: handlers became slow.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How long an end waits for the run's last output to be written.
const OUTPUT_WAIT: Duration = Duration::from_millis(250);

/// Takes a claimed run in hand and starts its task.
pub(super) fn start(shared: &Arc<Shared>, run: Claimed) {
    let (id, fence) = (run.id, run.fence);
    let registry = &shared.executor.registry;
    let timeout = registry.get(&run.handler).map_or(run.timeout, |entry| entry.options.timeout_of(run.timeout));
    // what a row's handler prints goes to the log alone
    let outlet = run.row.is_none().then(|| shared.outlet());
    let mut context = Context::new(facts(&run, timeout), CancellationToken::new(), outlet, registry.states());
    if let Some(row) = &run.row {
        context = context.about_passage(Arc::clone(&row.taken), Arc::clone(&row.passage));
    }
    context.bind(shared.config.grace, shared.config.lease);
    let place = Place::take(shared, &run.handler);
    // rows of watches have metrics of their own
    let meter = if run.row.is_none() { shared.meters.of(&run.queue, &run.handler) } else { Meter::default() };
    shared.hold(run, context, meter);
    let shared_by_task = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let _place = place;
        attempt(&shared_by_task, id, fence).await;
    });
    shared.with_held(id, |held| held.task = Some(task.abort_handle()));
}

async fn attempt(shared: &Shared, id: i64, fence: i64) {
    let Some(slot) = slot(shared).await else { return give_back(shared, id, fence) };
    let taken = shared.with_held(id, |held| (Arc::clone(&held.run), held.context.clone(), held.meter.clone()));
    let Some((run, context, meter)) = taken.filter(|(run, ..)| run.fence == fence) else { return };
    let company = Company::of(shared, &run).await;
    if context.is_cancelled() {
        company.part(shared, &run).await;
        drop(slot);
        return give_back(shared, id, fence);
    }
    // the run's time is counted from here, not from the claim, nor from its wait for a slot or to be alone
    context.begin();
    let waited = shared.with_held(id, |held| {
        held.started = Some(Instant::now());
        held.claimed.elapsed()
    });
    let Some(waited) = waited else { return };
    if !expired(&run, waited) {
        meter.started(&run.trigger, (run.claimed_at - run.run_at).to_std().unwrap_or_default() + waited);
        match &run.row {
            None => journal::started(&run),
            Some(row) => RowJournal::started(&run, row),
        }
        shared.observer.started(&run);
    }
    let span = match &run.row {
        None => tracing::info_span!(
            "run",
            id,
            handler = run.handler,
            queue = run.queue,
            attempt = run.attempt,
            schedule = run.schedule_name
        ),
        Some(row) => row.taken.span(run.attempt),
    };
    let began = Instant::now();
    let executed = execute(&shared.executor, &run, waited, &context).instrument(span).await;
    let took = began.elapsed();
    company.part(shared, &run).await;
    drop(slot);
    shared.note_pace(took);
    meter.returned(took);
    if let Some(row) = &run.row {
        metrics::watch_called(&row.plan.watch.name, &row.planned().step.from, took);
    }
    context.close_output();
    if matches!(executed, Executed::Verdict(_)) && shared.phase() == Phase::Running {
        // whoever sees the end then finds the output; but no state waits for output for long
        context.output_written(OUTPUT_WAIT).await;
    }
    shared.release(id, fence, |held| hand_over(shared, &held.run, meter, executed, took));
    if shared.room().is_some() {
        shared.wake.notify_one();
    }
    if let Some(row) = &run.row {
        // there is a slot again; steps of others that wait for one look by themselves
        shared.quiet.wake(row.plan.watch.id);
    }
}

/// A slot, or `None` when the run should go back: the wait was too long, or the worker drains.
async fn slot(shared: &Shared) -> Option<SemaphorePermit<'_>> {
    if let Ok(slot) = shared.slots.try_acquire() {
        return Some(slot);
    }
    tokio::select! {
        slot = time::timeout(WAIT_MAX, shared.slots.acquire()) => slot.ok()?.ok(),
        () = shared.at_least(Phase::Draining) => None,
    }
}

fn hand_over(shared: &Shared, run: &Claimed, meter: Meter, executed: Executed, took: Duration) {
    match executed {
        Executed::Verdict(finished) => {
            let finished = Finished { meter, ..finished };
            shared.observer.ends(run, &finished, took);
            shared.report(finished);
        }
        Executed::Recorded(accepted) => {
            if accepted {
                meter.finished(Status::Normal.as_str());
            }
            shared.observer.recorded(run, accepted, took);
        }
        Executed::Nothing => {}
    }
}

/// A run that never started goes back as it was, its attempt number unused.
fn give_back(shared: &Shared, id: i64, fence: i64) {
    shared.release(id, fence, |held| {
        let verdict = decide(held.run.standing(), Event::GivenBack, &RetryPolicy::default());
        let finished = Finished::of(&held.run, Duration::ZERO, verdict);
        shared.observer.ends(&held.run, &finished, Duration::ZERO);
        shared.report(finished);
    });
}

//! The flusher: collects verdicts and writes many in one statement.
//!
//! A batch goes when 100 wait, when the oldest is 5 ms old, or at once when nothing else is running: so the
//! first result after idleness is not held up, and a busy worker sends few statements.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{self, Instant},
};

use super::{
    journal,
    session::{Session, within},
    shared::{Phase, Shared},
};
use crate::{
    error::{is_missing_day, is_transient},
    lifecycle::{
        finish::{Finished, Recorded, finish},
        prune::make_days,
    },
};

const BATCH: usize = 100;
const BATCH_MAX: usize = 1000;
const AGE_MAX: Duration = Duration::from_millis(5);
/// How long a verdict waits whose schedule or limit somebody else holds.
const HELD_PAUSE: Duration = Duration::from_millis(10);
/// How long the last verdicts are tried at the end before they are left to rescue.
const LAST_TRY: Duration = Duration::from_secs(30);

pub(super) async fn flush(shared: Arc<Shared>, mut session: Session, mut inbox: UnboundedReceiver<Finished>) {
    let mut batch: Vec<Finished> = vec![];
    let mut held: Vec<Finished> = vec![];
    let mut over_since: Option<Instant> = None;
    loop {
        if batch.is_empty() && !gather(&shared, &mut inbox, &mut batch, &mut held).await {
            break;
        }
        let writing = std::mem::take(&mut batch);
        match write(&mut session, writing.clone()).await {
            Ok(recorded) => settle(&shared, &writing, &recorded, &mut held),
            Err(error) => {
                tracing::warn!(%error, runs = writing.len(), "verdicts could not be written; trying again");
                batch = writing;
                if !is_transient(&error) && batch.len() > 1 {
                    // one of them may be to blame: the others shall not wait for it
                    batch = singly(&shared, &mut session, batch, &mut held).await;
                }
                time::sleep(Duration::from_millis(50).mul_f64(1.0 + fastrand::f64() * 4.0)).await;
            }
        }
        if shared.phase() == Phase::Over {
            let since = *over_since.get_or_insert_with(Instant::now);
            let left = batch.len() + held.len();
            if left > 0 && since.elapsed() > LAST_TRY {
                tracing::error!(runs = left, "verdicts were not written before the end; their runs will be rescued");
                break;
            }
        }
    }
    session.close().await;
}

/// Collects the next batch. False: nothing is left and nothing will come.
async fn gather(
    shared: &Shared,
    inbox: &mut UnboundedReceiver<Finished>,
    batch: &mut Vec<Finished>,
    held: &mut Vec<Finished>,
) -> bool {
    if held.is_empty() {
        tokio::select! {
            biased;
            first = inbox.recv() => batch.extend(first),
            () = shared.at_least(Phase::Over) => match inbox.try_recv() {
                Ok(first) => batch.push(first),
                Err(_) => return false,
            },
        }
    } else {
        let _ = time::timeout(HELD_PAUSE, inbox.recv_many(batch, BATCH_MAX)).await;
        batch.append(held);
    }
    let oldest = Instant::now();
    loop {
        while batch.len() < BATCH_MAX
            && let Ok(next) = inbox.try_recv()
        {
            batch.push(next);
        }
        let wait = AGE_MAX.saturating_sub(oldest.elapsed());
        if batch.len() >= BATCH || wait.is_zero() || shared.in_hand() == 0 || batch.is_empty() {
            return !batch.is_empty();
        }
        // handlers are running: their results may come along; waking for each would cost more than the wait
        time::sleep(wait.min(Duration::from_millis(1))).await;
    }
}

async fn write(session: &mut Session, batch: Vec<Finished>) -> sqlx::Result<Recorded> {
    let deadline = session.deadline();
    let connection = session.connection().await?;
    let result = within(deadline, async {
        match finish(connection, batch.clone(), None).await {
            Err(error) if is_missing_day(&error) => {
                make_days(connection).await?;
                finish(connection, batch, None).await
            }
            recorded => recorded,
        }
    })
    .await;
    session.settle(result)
}

/// Writes verdicts one by one; returns those that still could not be written.
async fn singly(
    shared: &Shared,
    session: &mut Session,
    batch: Vec<Finished>,
    held: &mut Vec<Finished>,
) -> Vec<Finished> {
    let mut left = vec![];
    for one in batch {
        match write(session, vec![one.clone()]).await {
            Ok(recorded) => settle(shared, std::slice::from_ref(&one), &recorded, held),
            Err(error) => {
                tracing::error!(run = one.id, %error, "its verdict could not be written");
                left.push(one);
            }
        }
    }
    left
}

fn settle(shared: &Shared, written: &[Finished], recorded: &Recorded, held: &mut Vec<Finished>) {
    for id in &recorded.superseded {
        tracing::warn!(run = id, worker = shared.worker(), "a late verdict was refused: another worker has the run");
    }
    journal::paused(shared.worker(), &recorded.paused);
    shared.unwritten.settle(written, &recorded.held);
    held.extend(recorded.held.iter().cloned());
    written.iter().filter(|f| recorded.accepted.contains(&f.id)).for_each(Finished::count);
    let observed = if shared.observer.is_silent() { &[] } else { written };
    for f in observed {
        let accepted = recorded.accepted.contains(&f.id);
        if accepted || recorded.superseded.contains(&f.id) {
            shared.observer.settled(f, accepted);
        }
    }
    let again = written.iter().filter(|f| recorded.accepted.contains(&f.id)).filter_map(|f| f.verdict.delay).min();
    if let Some(delay) = again {
        shared.due_in(delay); // nobody is notified of a retry
    }
    if written.iter().any(|f| f.schedule_id.is_some()) {
        shared.ask(&shared.duties.ahead); // a fixed delay counts from this end
    }
    if written.iter().any(|f| f.concurrency_key.is_some()) {
        shared.ask(&shared.duties.keyed); // there is room under a limit
    }
}

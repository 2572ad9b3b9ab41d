//! The sampler: shows the cluster's values, which one worker reads every 15 s for all (the measure stage).
//!
//! **In** the row of `cluster_metrics`. **Out** gauges. **Lock** as the stage. **Crash** gauges end with the process.
//!
//! Each worker asks again when the values it knows have become too old, so all ask at about the same time: the first
//! reads, the others look again a moment later. The connection is opened for each look: a fifth one, idle for 15 s,
//! would cost the server more than this.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{
    session::{Session, within},
    shared::{Phase, Shared},
};
use crate::{
    lifecycle::measure::{Cluster, EVERY, Intervals, Measured, ScheduleValues, measure},
    metrics::{OTHER, list, set},
};

/// How long a look may take: the engine's own statements are not held up by it, but neither is it worth more.
const DEADLINE: Duration = Duration::from_secs(10);

/// When another worker is reading, or nothing could be read.
const AGAIN: Duration = Duration::from_secs(1);

/// Shows the values until the worker is over.
pub(super) async fn sample(shared: Arc<Shared>, session: Session) {
    tokio::select! {
        () = sample_on(session.bounded(DEADLINE)) => {}
        () = shared.at_least(Phase::Over) => {}
    }
}

async fn sample_on(mut session: Session) {
    let (mut failing, mut intervals) = (false, Intervals::default());
    loop {
        let measured = match session.connection().await {
            Ok(connection) => within(DEADLINE, measure(connection, &mut intervals, None)).await,
            Err(error) => Err(error),
        };
        let pause = match session.settle(measured) {
            Ok(Some(measured)) => {
                failing = false;
                show(&measured);
                EVERY.saturating_sub(measured.age).max(AGAIN)
            }
            Ok(None) => AGAIN,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the cluster's metrics could not be read; trying again");
                }
                EVERY / 3
            }
        };
        session.close().await;
        time::sleep(pause + Duration::from_millis(fastrand::u64(0..250))).await;
    }
}

/// Sets every gauge. One that is not set any more is dropped by the recorder after a while.
fn show(measured: &Measured) {
    let Cluster { queues, unclaimable, schedules, others, watches, workers, tables, schema_version, took } =
        &measured.cluster;
    for queue in queues {
        let name = queue.name.as_str();
        set(&list::QUEUE_RUNS, &[name, "pending"], queue.pending as f64);
        set(&list::QUEUE_RUNS, &[name, "running"], queue.running as f64);
        set(&list::QUEUE_OLDEST_PENDING, &[name], queue.oldest_pending);
        set(&list::QUEUE_OLDEST_RUNNING, &[name], queue.oldest_running);
        set(&list::QUEUE_PAUSED, &[name], flag(queue.paused));
    }
    for (handler, runs) in unclaimable {
        set(&list::UNCLAIMABLE_RUNS, &[handler], *runs as f64);
    }
    schedules.iter().for_each(show_schedule);
    if let Some(others) = others {
        set(&list::SCHEDULE_OVERDUE, &[OTHER], others.overdue);
        set(&list::SCHEDULE_FAILURES, &[OTHER], f64::from(others.failures));
    }
    for watch in watches {
        set(&list::WATCH_INFO, &[&watch.name, &watch.owner], 1.0);
        if let Some(rows) = watch.pending {
            set(&list::WATCH_PENDING_ROWS, &[&watch.name], rows as f64);
        }
        if let Some(age) = watch.oldest_pending {
            set(&list::WATCH_OLDEST_PENDING, &[&watch.name], age);
        }
        set(&list::WATCH_UNCOUNTED, &[&watch.name], watch.uncounted as f64);
        set(&list::WATCH_PAUSED, &[&watch.name], flag(watch.paused));
    }
    for (state, count) in workers {
        set(&list::WORKERS, &[state], *count as f64);
    }
    for (table, (size, dead)) in tables {
        set(&list::TABLE_SIZE, &[table], *size as f64);
        set(&list::TABLE_DEAD_TUPLES, &[table], *dead as f64);
    }
    set(&list::SCHEMA_VERSION, &[], f64::from(*schema_version));
    set(&list::CLUSTER_READ, &[], measured.read_at.timestamp_micros() as f64 / 1e6);
    set(&list::CLUSTER_READ_DURATION, &[], *took);
}

fn show_schedule(schedule: &ScheduleValues) {
    let [name, kind, queue, handler, owner] = schedule.labels.each_ref().map(String::as_str);
    set(&list::SCHEDULE_INFO, &[name, kind, queue, handler, owner], 1.0);
    set(&list::SCHEDULE_LAST_SUCCESS, &[name], schedule.last_success);
    set(&list::SCHEDULE_OVERDUE, &[name], schedule.overdue);
    set(&list::SCHEDULE_FAILURES, &[name], f64::from(schedule.failures));
    set(&list::SCHEDULE_PAUSED, &[name], flag(schedule.paused));
    for (metric, value) in [
        (&list::SCHEDULE_NEXT_FIRE, schedule.next_fire),
        (&list::SCHEDULE_LAST_START, schedule.last_start),
        (&list::SCHEDULE_LAST_DURATION, schedule.last_duration),
        (&list::SCHEDULE_EXPECTED_INTERVAL, schedule.expected_interval),
    ] {
        if let Some(value) = value {
            set(metric, &[name], value);
        }
    }
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

//! The gauges of one worker, set at each of its heartbeats.

use chrono::{DateTime, Utc};

use super::shared::{Shared, locked};
use crate::{
    clock,
    metrics::{count, list, set},
    migrate,
};

/// Pairs of queue and handler that have series from the start.
const BEFOREHAND_MAX: usize = 500;

/// Series that are there before anything happens: of every handler here in every queue that was named, or `default`.
pub(super) fn begin(shared: &Shared) {
    let default = ["default".to_owned()];
    let queues = shared.config.queues.as_deref().unwrap_or(&default);
    let pairs = queues.iter().flat_map(|queue| shared.who.handlers.iter().map(move |handler| (queue, handler)));
    for (queue, handler) in pairs.take(BEFOREHAND_MAX) {
        shared.meters.of(queue, handler);
    }
    for metric in [&list::LEASE_EXPIRATIONS, &list::LEASE_LOST, &list::RUNS_RECOVERED] {
        count(metric, &[], 0);
    }
    for metric in [&list::LOG_BYTES, &list::LOG_TRUNCATED_BYTES] {
        count(metric, &[], 0);
    }
    for source in ["notify", "heartbeat", "timer"] {
        count(&list::WAKEUPS, &[source], 0);
    }
    for class in ["io", "08", "40", "53", "57"] {
        count(&list::DB_ERRORS, &[class], 0);
    }
    set_all(shared);
}

/// What can be said whether the database answers or not.
pub(super) fn set_all(shared: &Shared) {
    let slots = shared.config.slots;
    set(&list::WORKER_SLOTS, &[], slots as f64);
    set(&list::RUNS_RUNNING, &[], slots.saturating_sub(shared.slots.available_permits()) as f64);
    let pool = &shared.executor.pool;
    let (size, idle) = (f64::from(pool.size()), pool.num_idle() as f64);
    set(&list::DB_POOL_CONNECTIONS, &["idle"], idle);
    set(&list::DB_POOL_CONNECTIONS, &["busy"], (size - idle).max(0.0));
    set(&list::DB_POOL_CONNECTIONS, &["max"], f64::from(pool.options().get_max_connections()));
    set(&list::SCHEMA_EXPECTED_VERSION, &[], f64::from(migrate::VERSION));
    set(&list::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    if let Some((heard, skew)) = *locked(&shared.heard) {
        set(&list::HEARTBEAT, &[], heard);
        set(&list::CLOCK_SKEW, &[], skew);
    }
}

/// A heartbeat was answered, with the database's time: in seconds since 1970, and how far this clock is ahead.
pub(super) fn heard(shared: &Shared, now: DateTime<Utc>) {
    let ahead = (clock::wall() - now).as_seconds_f64();
    *locked(&shared.heard) = Some((now.timestamp_micros() as f64 / 1e6, ahead));
}

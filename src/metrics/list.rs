//! Every metric there is: the one list that documents, tests and dashboards are checked against.

use super::Metric;

/// Label of schedules, queues and watches beyond the first 1,000 of a worker, taken together.
pub const OTHER: &str = "_other";

const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];
/// For what should take milliseconds.
const BRIEF: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const ROWS: &[f64] = &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];

// ---- runs
pub(crate) const RUNS_STARTED: Metric = Metric::counter(
    "watchbell_runs_started_total",
    &["queue", "handler", "trigger"],
    "Attempts of runs that this worker started.",
);
pub(crate) const RUNS_FINISHED: Metric = Metric::counter(
    "watchbell_runs_finished_total",
    &["queue", "handler", "status"],
    "Runs whose end (normal, failed, cancelled) the database accepted from this worker.",
);
pub(crate) const RUN_RETRIES: Metric = Metric::counter(
    "watchbell_run_retries_total",
    &["queue", "handler"],
    "Attempts that failed and after which the run waits for another one.",
);
pub(crate) const RUN_DURATION: Metric =
    Metric::histogram("watchbell_run_duration_seconds", &["queue", "handler"], SECONDS, "How long attempts took.");
pub(crate) const RUN_LATENESS: Metric = Metric::histogram(
    "watchbell_run_lateness_seconds",
    &["queue", "trigger"],
    SECONDS,
    "Time between when an attempt was due and when it started.",
);
pub(crate) const RUNS_RUNNING: Metric =
    Metric::gauge("watchbell_runs_running", &[], "Runs that this worker executes now.");
pub(crate) const WORKER_SLOTS: Metric =
    Metric::gauge("watchbell_worker_slots", &[], "How many runs this worker executes at once, at most.");
pub(crate) const LOG_BYTES: Metric =
    Metric::counter("watchbell_log_bytes_total", &[], "Bytes that runs printed and that were kept.");
pub(crate) const LOG_TRUNCATED_BYTES: Metric = Metric::counter(
    "watchbell_log_truncated_bytes_total",
    &[],
    "Bytes that runs printed beyond what is kept of an attempt.",
);

// ---- queues
pub(crate) const QUEUE_RUNS: Metric = Metric::gauge(
    "watchbell_queue_runs",
    &["queue", "status"],
    "Runs pending (due or not) and running; exact up to 100,000 in all, a lower bound beyond. Finished ones are not counted.",
)
.of_cluster();
pub(crate) const QUEUE_OLDEST_PENDING: Metric = Metric::gauge(
    "watchbell_queue_oldest_pending_age_seconds",
    &["queue"],
    "How long the run that has been due for longest waits; 0 if none does.",
)
.of_cluster();
pub(crate) const QUEUE_OLDEST_RUNNING: Metric = Metric::gauge(
    "watchbell_queue_oldest_running_age_seconds",
    &["queue"],
    "How long the attempt that was claimed first runs; 0 if none does.",
)
.of_cluster();
pub(crate) const QUEUE_PAUSED: Metric =
    Metric::gauge("watchbell_queue_paused", &["queue"], "1 while the queue is paused.").of_cluster();
pub(crate) const UNCLAIMABLE_RUNS: Metric = Metric::gauge(
    "watchbell_unclaimable_runs",
    &["handler"],
    "Due runs that no live worker would take: none has the handler, serves the queue and fits the target.",
)
.of_cluster();

// ---- schedules
pub(crate) const SCHEDULE_INFO: Metric = Metric::gauge(
    "watchbell_schedule_info",
    &["schedule", "kind", "queue", "handler", "owner"],
    "1 for each schedule.",
)
.of_cluster();
pub(crate) const SCHEDULE_NEXT_FIRE: Metric = Metric::gauge(
    "watchbell_schedule_next_fire_timestamp_seconds",
    &["schedule"],
    "When it fires next; absent while nothing is planned.",
)
.of_cluster();
pub(crate) const SCHEDULE_LAST_START: Metric = Metric::gauge(
    "watchbell_schedule_last_start_timestamp_seconds",
    &["schedule"],
    "When the newest of its ended runs started; absent before the first.",
)
.of_cluster();
pub(crate) const SCHEDULE_LAST_SUCCESS: Metric = Metric::gauge(
    "watchbell_schedule_last_success_timestamp_seconds",
    &["schedule"],
    "When a run of it last ended as normal; when it was created, if none has yet.",
)
.of_cluster();
pub(crate) const SCHEDULE_EXPECTED_INTERVAL: Metric = Metric::gauge(
    "watchbell_schedule_expected_interval_seconds",
    &["schedule"],
    "Largest gap between its next 10 fire times; absent if it fires less than twice more.",
)
.of_cluster();
pub(crate) const SCHEDULE_OVERDUE: Metric = Metric::gauge(
    "watchbell_schedule_overdue_seconds",
    &["schedule"],
    "How long its next fire time has been over without anybody acting; 0 if it is not, or if it is paused.",
)
.of_cluster();
pub(crate) const SCHEDULE_FAILURES: Metric = Metric::gauge(
    "watchbell_schedule_consecutive_failures",
    &["schedule"],
    "How many of its runs have failed since the last that did not.",
)
.of_cluster();
pub(crate) const SCHEDULE_PAUSED: Metric =
    Metric::gauge("watchbell_schedule_paused", &["schedule"], "1 while it is paused.").of_cluster();
pub(crate) const SCHEDULE_LAST_DURATION: Metric = Metric::gauge(
    "watchbell_schedule_last_duration_seconds",
    &["schedule"],
    "How long its last ended run took; absent before the first.",
)
.of_cluster();
pub(crate) const SCHEDULE_FIRES: Metric = Metric::counter(
    "watchbell_schedule_fires_total",
    &["schedule", "result"],
    "Fire times that this worker decided on, by result: run, caught_up, queued, skipped_overlap, skipped_misfire, skipped_no_worker, coalesced, expired.",
);

// ---- watches
pub(crate) const WATCH_INFO: Metric =
    Metric::gauge("watchbell_watch_info", &["watch", "owner"], "1 for each of the first 100 watches.").of_cluster();
pub(crate) const WATCH_PENDING_ROWS: Metric = Metric::gauge(
    "watchbell_watch_pending_rows",
    &["watch"],
    "Rows that wait in the watched table and that its filter lets through: of each state 10,000 at most, a lower bound beyond.",
)
.of_cluster();
pub(crate) const WATCH_OLDEST_PENDING: Metric = Metric::gauge(
    "watchbell_watch_oldest_pending_age_seconds",
    &["watch"],
    "How long the oldest of them has waited, or been tried in vain; without a since_column only what was tried.",
)
.of_cluster();
pub(crate) const WATCH_UNCOUNTED: Metric = Metric::gauge(
    "watchbell_watch_uncounted_states",
    &["watch"],
    "States whose waiting rows could not be counted: the filter fails, no index leads to them, or the table cannot be read.",
)
.of_cluster();
pub(crate) const WATCH_PAUSED: Metric =
    Metric::gauge("watchbell_watch_paused", &["watch"], "1 while it is paused.").of_cluster();
pub(crate) const WATCH_ROWS: Metric = Metric::counter(
    "watchbell_watch_rows_total",
    &["watch", "status"],
    "Rows that this worker moved on (normal), gave up (failed) or put back for another attempt (retried).",
);
pub(crate) const WATCH_POLL_DURATION: Metric =
    Metric::histogram("watchbell_watch_poll_duration_seconds", &["watch"], BRIEF, "How long a look at a table took.");
pub(crate) const WATCH_HANDLER_DURATION: Metric = Metric::histogram(
    "watchbell_watch_handler_duration_seconds",
    &["watch", "step"],
    SECONDS,
    "How long calls of handlers took: about one row, or a whole batch where the handler takes batches.",
);

// ---- workers and leases
pub(crate) const WORKERS: Metric = Metric::gauge(
    "watchbell_workers",
    &["state"],
    "Workers by state: starting, running, draining; stopped and dead ones of the last days.",
)
.of_cluster();
pub(crate) const LEASE_EXPIRATIONS: Metric =
    Metric::counter("watchbell_lease_expirations_total", &[], "Workers that this one declared dead.");
pub(crate) const LEASE_LOST: Metric = Metric::counter(
    "watchbell_lease_lost_total",
    &[],
    "How often this worker gave up its runs, because it was declared dead or cut off for most of its lease.",
);
pub(crate) const RUNS_RECOVERED: Metric =
    Metric::counter("watchbell_runs_recovered_total", &[], "Runs of dead workers that this one took back or ended.");
pub(crate) const HEARTBEAT: Metric =
    Metric::gauge("watchbell_heartbeat_timestamp_seconds", &[], "The database's time of this worker's last heartbeat.");
pub(crate) const CLOCK_SKEW: Metric = Metric::gauge(
    "watchbell_clock_skew_seconds",
    &[],
    "How far this machine's clock is ahead of the database's; only the database's decides anything.",
);

// ---- polling
pub(crate) const POLLS: Metric = Metric::counter(
    "watchbell_polls_total",
    &["source", "result"],
    "Looks by what was looked for (schedules, runs, duties) and result (rows, empty, error).",
);
pub(crate) const POLL_DURATION: Metric =
    Metric::histogram("watchbell_poll_duration_seconds", &[], BRIEF, "How long one round of looks took.");
pub(crate) const POLL_CLAIMED_ROWS: Metric =
    Metric::histogram("watchbell_poll_claimed_rows", &[], ROWS, "How many runs one look claimed.");
pub(crate) const WAKEUPS: Metric = Metric::counter(
    "watchbell_wakeups_total",
    &["source"],
    "What woke the poller: notify (an insert), heartbeat (a hint), timer (a due time).",
);

// ---- the database
pub(crate) const DB_ERRORS: Metric = Metric::counter(
    "watchbell_db_errors_total",
    &["sqlstate_class"],
    "Errors of the engine's statements by the first two characters of their SQLSTATE, or io.",
);
pub(crate) const DB_POOL_CONNECTIONS: Metric = Metric::gauge(
    "watchbell_db_pool_connections",
    &["state"],
    "Connections of the handlers' pool: idle, busy, and the max there may be.",
);
pub(crate) const DB_POOL_ACQUIRE: Metric = Metric::histogram(
    "watchbell_db_pool_acquire_seconds",
    &[],
    BRIEF,
    "How long transactional handlers waited for a connection of that pool.",
);
pub(crate) const RETENTION_DELETED_ROWS: Metric = Metric::counter(
    "watchbell_retention_deleted_rows_total",
    &["table"],
    "Rows of days that this worker dropped, as estimated by the server's statistics.",
);
pub(crate) const TABLE_SIZE: Metric = Metric::gauge(
    "watchbell_table_size_bytes",
    &["table"],
    "Size of a table with its indexes; of history, all days together.",
)
.of_cluster();
pub(crate) const TABLE_DEAD_TUPLES: Metric = Metric::gauge(
    "watchbell_table_dead_tuples",
    &["table"],
    "Dead rows that vacuum has not removed yet, as the server estimates them.",
)
.of_cluster();
pub(crate) const SCHEMA_VERSION: Metric =
    Metric::gauge("watchbell_schema_version", &[], "Version of the database's schema.").of_cluster();
pub(crate) const SCHEMA_EXPECTED_VERSION: Metric =
    Metric::gauge("watchbell_schema_expected_version", &[], "Version of the schema that this build brings.");
pub(crate) const CLUSTER_READ: Metric = Metric::gauge(
    "watchbell_cluster_read_timestamp_seconds",
    &[],
    "When the cluster's values were read from the database, at most every 15 s by one worker for all.",
)
.of_cluster();
pub(crate) const CLUSTER_READ_DURATION: Metric =
    Metric::gauge("watchbell_cluster_read_duration_seconds", &[], "How long that reading took.").of_cluster();

// ---- the program
pub(crate) const HTTP_REQUESTS: Metric = Metric::counter(
    "watchbell_http_requests_total",
    &["route", "status"],
    "Requests to the program's HTTP port by route (other for unknown ones) and status code.",
);
pub(crate) const HTTP_REQUEST_DURATION: Metric = Metric::histogram(
    "watchbell_http_request_duration_seconds",
    &["route"],
    BRIEF,
    "How long requests to the program's HTTP port took.",
);
pub(crate) const BUILD_INFO: Metric =
    Metric::gauge("watchbell_build_info", &["version"], "1, with the version of this build.");

/// Every metric, in the order of the documentation.
pub const ALL: &[Metric] = &[
    RUNS_STARTED,
    RUNS_FINISHED,
    RUN_RETRIES,
    RUN_DURATION,
    RUN_LATENESS,
    RUNS_RUNNING,
    WORKER_SLOTS,
    LOG_BYTES,
    LOG_TRUNCATED_BYTES,
    QUEUE_RUNS,
    QUEUE_OLDEST_PENDING,
    QUEUE_OLDEST_RUNNING,
    QUEUE_PAUSED,
    UNCLAIMABLE_RUNS,
    SCHEDULE_INFO,
    SCHEDULE_NEXT_FIRE,
    SCHEDULE_LAST_START,
    SCHEDULE_LAST_SUCCESS,
    SCHEDULE_EXPECTED_INTERVAL,
    SCHEDULE_OVERDUE,
    SCHEDULE_FAILURES,
    SCHEDULE_PAUSED,
    SCHEDULE_LAST_DURATION,
    SCHEDULE_FIRES,
    WATCH_INFO,
    WATCH_PENDING_ROWS,
    WATCH_OLDEST_PENDING,
    WATCH_UNCOUNTED,
    WATCH_PAUSED,
    WATCH_ROWS,
    WATCH_POLL_DURATION,
    WATCH_HANDLER_DURATION,
    WORKERS,
    LEASE_EXPIRATIONS,
    LEASE_LOST,
    RUNS_RECOVERED,
    HEARTBEAT,
    CLOCK_SKEW,
    POLLS,
    POLL_DURATION,
    POLL_CLAIMED_ROWS,
    WAKEUPS,
    DB_ERRORS,
    DB_POOL_CONNECTIONS,
    DB_POOL_ACQUIRE,
    RETENTION_DELETED_ROWS,
    TABLE_SIZE,
    TABLE_DEAD_TUPLES,
    SCHEMA_VERSION,
    SCHEMA_EXPECTED_VERSION,
    CLUSTER_READ,
    CLUSTER_READ_DURATION,
    HTTP_REQUESTS,
    HTTP_REQUEST_DURATION,
    BUILD_INFO,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::Kind;

    #[test]
    fn every_metric_of_this_file_is_in_the_list() {
        let declared = include_str!("list.rs").lines().filter(|line| line.starts_with("pub(crate) const ")).count();
        assert_eq!(declared, ALL.len());
        assert_eq!(ALL.iter().map(|metric| metric.name).collect::<BTreeSet<_>>().len(), ALL.len());
    }

    #[test]
    fn names_say_what_is_counted() {
        for metric in ALL {
            assert!(metric.name.starts_with("watchbell_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert_eq!(metric.buckets.is_empty(), metric.kind != Kind::Histogram, "{}", metric.name);
            assert!(metric.buckets.is_sorted(), "{}", metric.name);
            assert!(metric.help.ends_with('.') && metric.help.len() < 180, "{}", metric.name);
            assert!(metric.labels.len() <= 5 && !metric.labels.contains(&"instance"), "{}", metric.name);
        }
    }
}

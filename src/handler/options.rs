//! What holds for all runs of one handler in one worker.

use std::time::Duration;

use serde::Serialize;

use crate::retry::RetryPolicy;

/// The most runs of one handler at once that can be asked for.
const RUNNING_MAX: usize = 10_000;

/// How a worker runs one of its handlers, whatever its runs say.
///
/// ```
/// use watchbell::handler::HandlerOptions;
/// use watchbell::seconds;
///
/// let options = HandlerOptions::new()
///     .max_running(5)
///     .timeout(seconds(30))
///     .retry(&serde_json::json!({"strategy": "fixed", "base": "10s"}));
/// # async fn mail() {}
/// # let _ = watchbell::Registry::new().handler_with("mail", mail, options);
/// ```
#[derive(Debug, Clone, Default)]
pub struct HandlerOptions {
    max_running: Option<usize>,
    timeout: Option<Duration>,
    retry: Option<RetryPolicy>,
    /// The first option that could not be taken; said when the worker starts.
    problem: Option<String>,
}

impl HandlerOptions {
    /// No limits beside those of the runs and of the worker.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many of its runs this worker process runs at once, 1 to 10,000; each worker counts for itself.
    ///
    /// At that number the worker claims no more of them, so they take no slots from other handlers and other
    /// workers may have them. (A limit across all workers is a `concurrency_key`.) Its runs are claimed
    /// apart from those of other handlers: priorities order them among themselves, and it and the others
    /// take turns at the slots.
    #[must_use]
    pub fn max_running(mut self, runs: usize) -> Self {
        if (1..=RUNNING_MAX).contains(&runs) {
            self.max_running = Some(runs);
        } else {
            self.refuse(format!("max_running {runs} is out of range 1 to {RUNNING_MAX}"));
        }
        self
    }

    /// How long an attempt may take; the shorter of this and the run's own `timeout` holds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if timeout.is_zero() {
            self.refuse("timeout 0s is shorter than the least of 1ms".to_owned());
        }
        self.timeout = Some(timeout);
        self
    }

    /// How long to wait before further attempts of runs that say nothing about it; a run's own `retry` wins.
    ///
    /// As [`RetryPolicy::from_json`] takes it; what it refuses stops the start of the worker.
    #[must_use]
    pub fn retry(mut self, policy: &(impl Serialize + ?Sized)) -> Self {
        let read = serde_json::to_value(policy).map_err(|e| e.to_string());
        match read.and_then(|value| RetryPolicy::from_json(&value).map_err(|e| e.to_string())) {
            Ok(policy) => self.retry = Some(policy),
            Err(problem) => self.refuse(problem),
        }
        self
    }

    fn refuse(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(crate) fn most(&self) -> Option<usize> {
        self.max_running
    }

    /// The time of one attempt of a run with this timeout.
    pub(crate) fn timeout_of(&self, run: Option<Duration>) -> Option<Duration> {
        match (self.timeout, run) {
            (Some(own), Some(run)) => Some(own.min(run)),
            (own, run) => own.or(run),
        }
    }

    /// The policy of a run with this `retry`, if it has one.
    pub(crate) fn retry_of(&self, run: Option<&str>) -> RetryPolicy {
        let own = || self.retry.clone().unwrap_or_default();
        run.map_or_else(own, |text| text.parse().unwrap_or_default())
    }
}

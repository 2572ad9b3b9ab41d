//! What may be said of a watch and of each of its steps alike.

use std::time::Duration;

use crate::client::check;
use crate::client::new_run::{Timeout, json_text, retry_text};
use crate::error::Error;

/// Where rows go, what is done with them and how.
#[derive(Debug, Clone)]
pub(in crate::client) struct Work {
    pub(in crate::client) from: Option<String>,
    pub(in crate::client) via: Option<String>,
    pub(in crate::client) to: Option<String>,
    pub(in crate::client) error: Option<String>,
    pub(in crate::client) handler: Option<String>,
    pub(in crate::client) payload: Option<String>,
    pub(in crate::client) retry: Option<String>,
    pub(in crate::client) max_attempts: Option<i16>,
    pub(in crate::client) timeout: Timeout,
    pub(in crate::client) mode: Option<&'static str>,
    pub(in crate::client) batch_size: Option<i32>,
    pub(in crate::client) max_running: Option<i32>,
    pub(in crate::client) rate: Option<(i32, Duration)>,
    pub(in crate::client) order_by: Option<String>,
    pub(in crate::client) filter: Option<String>,
    /// The first option that could not be taken; said when it is used.
    pub(in crate::client) problem: Option<String>,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            from: None,
            via: None,
            to: None,
            error: None,
            handler: None,
            payload: None,
            retry: None,
            max_attempts: None,
            timeout: Timeout::Default,
            mode: None,
            batch_size: None,
            max_running: None,
            rate: None,
            order_by: None,
            filter: None,
            problem: None,
        }
    }
}

impl Work {
    /// The first problem stays.
    pub(super) fn take(&mut self, taken: crate::Result<String>) -> Option<String> {
        match taken {
            Ok(text) => return Some(text),
            Err(Error::Invalid { problem, .. }) => self.problem.get_or_insert(problem),
            Err(other) => self.problem.get_or_insert(other.to_string()),
        };
        None
    }

    pub(super) fn take_payload(&mut self, payload: &(impl serde::Serialize + ?Sized)) {
        let text = json_text("payload", payload).and_then(|text| {
            check::payload(&text).map_err(|problem| Error::invalid("payload", problem)).map(|()| text)
        });
        self.payload = self.take(text);
    }

    pub(super) fn take_retry(&mut self, policy: &(impl serde::Serialize + ?Sized)) {
        self.retry = self.take(retry_text("retry", policy));
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        if let Some(handler) = &self.handler {
            check::handler(handler)?;
        }
        if let Timeout::Of(timeout) = self.timeout {
            check::interval("timeout", timeout, Duration::from_millis(1))?;
        }
        if let Some((_, period)) = self.rate {
            check::interval("rate_period", period, Duration::from_millis(1))?;
        }
        self.max_attempts.map_or(Ok(()), check::max_attempts)
    }
}

/// Writes the options for a type that has its [`Work`] in the field `work`.
macro_rules! options {
    ($type:ident) => {
        impl $type {
            /// Their state while the handler works, in leased mode; without it they stay where they are.
            #[must_use]
            pub fn via(mut self, state: impl Into<String>) -> Self {
                self.work.via = Some(state.into());
                self
            }

            /// Their state after success.
            #[must_use]
            pub fn to(mut self, state: impl Into<String>) -> Self {
                self.work.to = Some(state.into());
                self
            }

            /// Their state after the last failed attempt; `failed` if not given.
            #[must_use]
            pub fn on_error(mut self, state: impl Into<String>) -> Self {
                self.work.error = Some(state.into());
                self
            }

            /// What does the work.
            #[must_use]
            pub fn handler(mut self, name: impl Into<String>) -> Self {
                self.work.handler = Some(name.into());
                self
            }

            /// What the handler gets beside the row: any value that becomes a JSON object of at most 1 MiB.
            ///
            /// One that does not is refused, with the watch's name, when the watch is declared.
            #[must_use]
            pub fn payload(mut self, payload: &(impl serde::Serialize + ?Sized)) -> Self {
                self.work.take_payload(payload);
                self
            }

            /// How long to wait before each further attempt: `{"strategy": "fixed", "base": "30s"}`.
            ///
            /// One that is no [`RetryPolicy`](crate::retry::RetryPolicy) is refused when the watch is declared.
            #[must_use]
            pub fn retry(mut self, policy: &(impl serde::Serialize + ?Sized)) -> Self {
                self.work.take_retry(policy);
                self
            }

            /// How often a row is tried in all, 1 to 100; 3 if not given.
            #[must_use]
            pub fn max_attempts(mut self, attempts: i16) -> Self {
                self.work.max_attempts = Some(attempts);
                self
            }

            /// How long one attempt may take; `None` is without limit, an hour if not given.
            #[must_use]
            pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
                self.work.timeout = timeout.into().map_or($crate::client::new_run::Timeout::None, |limit| {
                    $crate::client::new_run::Timeout::Of(limit)
                });
                self
            }

            /// The handler works inside the transaction that moves the row: all of it happens exactly once.
            ///
            /// Without this and without [`leased`](Self::leased) the mode follows from the handler.
            #[must_use]
            pub fn transactional(mut self) -> Self {
                self.work.mode = Some("transactional");
                self
            }

            /// The handler works outside, for as long as it takes; a row of a dead worker is taken again.
            #[must_use]
            pub fn leased(mut self) -> Self {
                self.work.mode = Some("leased");
                self
            }

            /// How many rows are taken at once, 1 to 1000; 100 if not given.
            #[must_use]
            pub fn batch_size(mut self, rows: i32) -> Self {
                self.work.batch_size = Some(rows);
                self
            }

            /// How many rows may be in work at once over all workers; 1 to 1,000,000.
            #[must_use]
            pub fn max_running(mut self, rows: i32) -> Self {
                self.work.max_running = Some(rows);
                self
            }

            /// How many rows may start per period over all workers: 1 to 1,000,000, of at least 1 ms.
            #[must_use]
            pub fn rate(mut self, rows: i32, period: Duration) -> Self {
                self.work.rate = Some((rows, period));
                self
            }

            /// Which rows come first: columns, each with `asc` or `desc`; in the order of the key if not given.
            #[must_use]
            pub fn order_by(mut self, columns: impl Into<String>) -> Self {
                self.work.order_by = Some(columns.into());
                self
            }

            /// A condition in SQL that rows must meet besides; it is evaluated with the rights of the worker's login.
            #[must_use]
            pub fn filter(mut self, condition: impl Into<String>) -> Self {
                self.work.filter = Some(condition.into());
                self
            }
        }
    };
}
pub(in crate::client) use options;

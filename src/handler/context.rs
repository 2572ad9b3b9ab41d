//! What a handler knows about its run.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    extract::States,
    output::{Outlet, Output, Stream},
    passage::Passage,
    rows::Taken,
};
use crate::run::RunId;

/// Why a handler is asked to stop.
///
/// ```
/// use watchbell::{Context, HandlerResult, StopReason};
///
/// async fn wait_for_files(ctx: Context) -> HandlerResult {
///     ctx.cancelled().await; // a few seconds are left now
///     match ctx.stop_reason() {
///         Some(StopReason::Cancelled(reason)) => ctx.log(format!("stopped by a person: {reason}")),
///         Some(StopReason::Timeout) => ctx.log("no file came in time"),
///         Some(StopReason::Shutdown) => ctx.log("another worker goes on"),
///         Some(StopReason::LeaseLost) => {} // another worker may be at it already: touch nothing
///         _ => {}
///     }
///     Ok(())
/// }
/// # let _ = watchbell::Registry::new().handler("files", wait_for_files);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// Cancelled: by whom, and why if that was said, such as `cancelled by eve: wrong month`.
    Cancelled(String),
    /// The run's `timeout` is over.
    Timeout,
    /// The worker shuts down and its drain timeout is over.
    Shutdown,
    /// The worker lost its lease: another worker may have the run already.
    LeaseLost,
}

/// What a handler knows about its run: who it is, how long it may take, whether to stop.
///
/// Cheap to clone; `Send + Sync`.
#[derive(Debug, Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    facts: Facts,
    /// Set when the handler is called.
    deadline: OnceLock<Instant>,
    token: CancellationToken,
    reason: OnceLock<StopReason>,
    /// How long it may take to stop, and the worker's lease.
    bounds: OnceLock<(Duration, Duration)>,
    pulse: OnceLock<Pulse>,
    output: Option<Output>,
    states: Arc<States>,
    /// The rows of a watch, if one calls.
    taken: Option<Arc<Taken>>,
    /// In leased mode: the row's passage through its step.
    passage: Option<Arc<Passage>>,
}

/// What a handler does at every heartbeat.
struct Pulse(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pulse")
    }
}

/// The columns of the run that handlers see.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) run_id: i64,
    pub(crate) attempt: i32,
    pub(crate) max_attempts: i16,
    pub(crate) fence: i64,
    pub(crate) worker: i32,
    pub(crate) handler: String,
    pub(crate) queue: String,
    pub(crate) schedule: Option<String>,
    pub(crate) fire_at: Option<DateTime<Utc>>,
    pub(crate) run_at: DateTime<Utc>,
    pub(crate) payload: Arc<str>,
    pub(crate) timeout: Option<Duration>,
}

impl Context {
    pub(crate) fn new(facts: Facts, token: CancellationToken, outlet: Option<Outlet>, states: Arc<States>) -> Self {
        let output = outlet.map(|outlet| Output::new(outlet, facts.run_id, facts.attempt));
        let (deadline, reason) = (OnceLock::new(), OnceLock::new());
        let (bounds, pulse) = (OnceLock::new(), OnceLock::new());
        Self {
            inner: Arc::new(Inner {
                facts,
                deadline,
                token,
                reason,
                bounds,
                pulse,
                output,
                states,
                taken: None,
                passage: None,
            }),
        }
    }

    /// For a call about rows of a watch.
    pub(crate) fn about(mut self, taken: Arc<Taken>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.taken = Some(taken);
        }
        self
    }

    /// For one row of a watch in leased mode.
    pub(crate) fn about_passage(mut self, taken: Arc<Taken>, passage: Arc<Passage>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            (inner.taken, inner.passage) = (Some(taken), Some(passage));
        }
        self
    }

    /// The row's passage through its step, in leased mode.
    pub(super) fn passage(&self) -> Option<&Passage> {
        self.inner.passage.as_deref()
    }

    /// The rows that the call is about, if a watch calls.
    pub(crate) fn taken(&self) -> Option<&Taken> {
        self.inner.taken.as_deref()
    }

    /// The watch that calls, if one does; there is no run then, and its number is not positive.
    pub fn watch(&self) -> Option<&str> {
        self.taken().map(|taken| taken.watch.as_str())
    }

    /// The state that the watch took its rows from.
    pub fn step(&self) -> Option<&str> {
        self.taken().map(|taken| taken.step.as_str())
    }

    /// The watched row as JSON text, an object of its columns; of a batch the first. Typed: [`Row`](super::Row).
    pub fn row(&self) -> Option<&str> {
        self.taken().and_then(|taken| taken.rows.first()).map(String::as_str)
    }

    /// The watched row's key columns as text, in order; with watch and step an idempotency key.
    pub fn key(&self) -> Option<&[String]> {
        self.taken().and_then(|taken| taken.keys.first()).map(Vec::as_slice)
    }

    /// The handler is called now: its timeout is counted from here, not from the claim.
    pub(crate) fn begin(&self) {
        if let Some(deadline) = self.inner.facts.timeout.and_then(|timeout| Instant::now().checked_add(timeout)) {
            let _ = self.inner.deadline.set(deadline);
        }
    }

    /// Identifies the run; the same in every attempt. Use it as an idempotency key.
    pub fn run_id(&self) -> RunId {
        RunId(self.inner.facts.run_id)
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> i32 {
        self.inner.facts.attempt
    }

    /// How many attempts there are in all.
    pub fn max_attempts(&self) -> i16 {
        self.inner.facts.max_attempts
    }

    /// The fencing token: rises with every claim of this run. Give it to outside systems that can refuse
    /// an older one.
    pub fn fence(&self) -> i64 {
        self.inner.facts.fence
    }

    /// The worker that claimed this run: with run id and fence, all that guards its end.
    pub(crate) fn worker(&self) -> i32 {
        self.inner.facts.worker
    }

    /// The name under which this handler was looked up.
    pub fn handler(&self) -> &str {
        &self.inner.facts.handler
    }

    /// The run's queue.
    pub fn queue(&self) -> &str {
        &self.inner.facts.queue
    }

    /// The schedule that made this run, if one did.
    pub fn schedule(&self) -> Option<&str> {
        self.inner.facts.schedule.as_deref()
    }

    /// The instant at which the schedule was meant to act, however late the run started.
    pub fn fire_at(&self) -> Option<DateTime<Utc>> {
        self.inner.facts.fire_at
    }

    /// When the run was due.
    pub fn run_at(&self) -> DateTime<Utc> {
        self.inner.facts.run_at
    }

    /// The payload as JSON text.
    pub fn payload(&self) -> &str {
        &self.inner.facts.payload
    }

    /// The value of this type that the worker was given by [`state`](crate::worker::Builder::state), if any.
    pub fn state<T: 'static>(&self) -> Option<&T> {
        self.inner.states.get()
    }

    /// When the run's `timeout` is over; `None` without a timeout.
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.deadline.get().copied()
    }

    /// How much of the `timeout` is left; `None` without a timeout.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Completes when the handler is asked to stop. It then has a grace of a few seconds, after which its
    /// future is dropped.
    pub async fn cancelled(&self) {
        self.inner.token.cancelled().await;
    }

    /// Whether the handler is asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.inner.token.is_cancelled()
    }

    /// Cancelled together with this context; for child tasks and other libraries.
    pub fn cancellation(&self) -> CancellationToken {
        self.inner.token.child_token()
    }

    /// Why the handler is asked to stop, once it is.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.inner.reason.get().cloned()
    }

    /// Adds a line to the run's output, stream `log`. Never blocks and never fails the run: like all output
    /// it is cut in the middle where it is longer than the worker's `output_limit`.
    ///
    /// Of a row of a watch the line goes to the worker's log, at `debug`, target `watchbell::watch`; in leased mode the
    /// last 4 KiB of an attempt that fails are stored with its error.
    pub fn log(&self, line: impl Into<String>) {
        let mut line = line.into();
        if self.taken().is_none() {
            tracing::debug!(run = self.inner.facts.run_id, attempt = self.attempt(), "{line}");
        }
        line.push('\n');
        self.output(Stream::Log, line.as_bytes());
    }

    /// Adds bytes to the run's output: any bytes, not only text. Never blocks and never fails the run.
    ///
    /// Of one attempt the first and the last bytes are kept, together `output_limit` of the worker's
    /// configuration (256 KiB); how many were cut between them is counted. Written at least once a second.
    ///
    /// Of a row of a watch it goes where [`log`](Self::log) goes.
    ///
    /// ```
    /// use watchbell::{Context, handler::Stream};
    ///
    /// fn convert(ctx: &Context, page: &[u8]) {
    ///     ctx.output(Stream::Stdout, page);
    /// }
    /// ```
    pub fn output(&self, stream: Stream, bytes: &[u8]) {
        if let Some(output) = &self.inner.output {
            output.write(stream, bytes);
        } else if let Some(taken) = self.taken() {
            if let Some(passage) = self.passage() {
                passage.print(bytes);
            }
            taken.log(stream, bytes);
        }
    }

    /// The attempt is over: the end of its output goes to the writer.
    pub(crate) fn close_output(&self) {
        if let Some(output) = &self.inner.output {
            output.close();
        }
    }

    /// Waits until its output is written, at most so long.
    pub(crate) async fn output_written(&self, limit: Duration) {
        if let Some(output) = &self.inner.output {
            output.written(limit).await;
        }
    }

    /// Says how long the handler will have once it is asked to stop, and how long the worker's lease is.
    pub(crate) fn bind(&self, grace: Duration, lease: Duration) {
        let _ = self.inner.bounds.set((grace, lease));
    }

    /// The database has heard the worker's heartbeat: the run is its own for another lease.
    pub(crate) fn beat(&self) {
        if let Some(pulse) = self.inner.pulse.get() {
            (pulse.0)();
        }
    }

    /// Calls this at every heartbeat that the database heard, from the thread of heartbeats: it must not block.
    #[cfg(all(unix, feature = "shell"))]
    pub(crate) fn on_beat(&self, act: impl Fn() + Send + Sync + 'static) {
        let _ = self.inner.pulse.set(Pulse(Box::new(act)));
    }

    /// How long the run stays the worker's own after a heartbeat, if a worker has it.
    #[cfg(all(unix, feature = "shell"))]
    pub(crate) fn lease(&self) -> Option<Duration> {
        self.inner.bounds.get().map(|(_, lease)| *lease)
    }

    /// How long the handler has from the moment it is asked to stop, for this reason.
    #[cfg(all(unix, feature = "shell"))]
    pub(crate) fn grace(&self) -> Duration {
        let usual = (Duration::from_secs(5), Duration::from_secs(15));
        let (grace, lease) = self.inner.bounds.get().copied().unwrap_or(usual);
        // the worker gives its runs up a fifth before the end of the lease
        if self.stop_reason() == Some(StopReason::LeaseLost) { grace.min(lease / 5) } else { grace }
    }

    /// Asks the handler to stop; the first reason stays.
    pub(crate) fn stop(&self, reason: StopReason) {
        let _ = self.inner.reason.set(reason);
        self.inner.token.cancel();
    }
}

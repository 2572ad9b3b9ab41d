//! What a worker counts and measures, through the facade of the crate `metrics`.
//!
//! A program that installs a recorder (of `metrics-exporter-prometheus`, for example) before its workers start
//! gets all of [`ALL`] from them; without one nothing is recorded. The command line program does so for
//! `worker run --listen`.
//!
//! ```
//! use watchbell::metrics::{self, Kind, Scope};
//!
//! // after the recorder is installed: what each one means
//! metrics::describe();
//!
//! for metric in metrics::ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
//!     // a recorder of Prometheus makes summaries of histograms whose buckets it was not told
//!     println!("{} ({:?}): {:?}", metric.name, metric.unit(), metric.buckets);
//! }
//! // of schedules and other names beyond the first thousand only one value is told
//! assert_eq!(metrics::OTHER, "_other");
//! // the same on every worker: `max by`, not `sum by`
//! let cluster = metrics::ALL.iter().filter(|metric| metric.scope == Scope::Cluster).count();
//! assert!(cluster > 10);
//! ```

mod engine;
pub(crate) mod list;
mod record;
mod runs;

use ::metrics::Unit;

pub(crate) use engine::{Look, PollMeter, Waker, db_error, fired, woken};
pub(crate) use engine::{watch_called, watch_poll, watch_rows};
pub use list::{ALL, OTHER};
pub(crate) use record::{count, record, set};
pub(crate) use runs::{Meter, Meters};

/// One metric, with all that is known of it.
///
/// ```
/// use watchbell::metrics::{ALL, Metric};
///
/// let of_queues: Vec<&Metric> = ALL.iter().filter(|metric| metric.labels.contains(&"queue")).collect();
/// for metric in of_queues {
///     println!("{}: {}", metric.name, metric.help);
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// Its whole name, such as `watchbell_runs_started_total`.
    pub name: &'static str,
    /// How its values are to be read.
    pub kind: Kind,
    /// Whose values they are.
    pub scope: Scope,
    /// Names of its labels; each has a bounded number of values.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Upper bounds of a histogram's buckets; empty for others.
    pub buckets: &'static [f64],
}

/// How a metric's values are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; starts at 0 with the process.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// Counts of observations by size.
    Histogram,
}

/// Whose values a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Of one worker: to be added up over all of them.
    Worker,
    /// Of the whole database, the same on every worker: take the largest.
    Cluster,
}

impl Metric {
    const fn new(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind, scope: Scope::Worker, labels, help, buckets: &[] }
    }

    const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self::new(name, Kind::Counter, labels, help)
    }

    const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self::new(name, Kind::Gauge, labels, help)
    }

    const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        buckets: &'static [f64],
        help: &'static str,
    ) -> Self {
        Self { buckets, ..Self::new(name, Kind::Histogram, labels, help) }
    }

    const fn of_cluster(self) -> Self {
        Self { scope: Scope::Cluster, ..self }
    }

    /// Seconds, bytes or plain numbers, as the name says.
    pub fn unit(&self) -> Unit {
        let name = self.name.trim_end_matches("_total");
        if name.ends_with("_seconds") {
            Unit::Seconds
        } else if name.ends_with("_bytes") {
            Unit::Bytes
        } else {
            Unit::Count
        }
    }
}

/// Tells the installed recorder what every metric means, and its unit.
pub fn describe() {
    ::metrics::with_recorder(|recorder| {
        for metric in ALL {
            let (name, unit, help) = (metric.name.into(), Some(metric.unit()), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
                Kind::Histogram => recorder.describe_histogram(name, unit, help),
            }
        }
    });
}

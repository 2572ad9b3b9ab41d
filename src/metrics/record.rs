//! How a value gets to the recorder.

use ::metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, with_recorder};

use super::Metric;

const METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, None);

/// A handle to keep where something happens often: with it counting is one atomic addition.
pub(crate) fn counter(metric: &Metric, values: &[&str]) -> Counter {
    with_recorder(|recorder| recorder.register_counter(&key(metric, values), &METADATA))
}

/// A handle, likewise.
pub(crate) fn histogram(metric: &Metric, values: &[&str]) -> Histogram {
    with_recorder(|recorder| recorder.register_histogram(&key(metric, values), &METADATA))
}

fn gauge(metric: &Metric, values: &[&str]) -> Gauge {
    with_recorder(|recorder| recorder.register_gauge(&key(metric, values), &METADATA))
}

/// Counts what happens seldom.
pub(crate) fn count(metric: &Metric, values: &[&str], more: u64) {
    counter(metric, values).increment(more);
}

/// Sets a gauge. Looked up each time: a recorder may have dropped one that was not set for a while.
pub(crate) fn set(metric: &Metric, values: &[&str], value: f64) {
    gauge(metric, values).set(value);
}

/// Records what happens seldom.
pub(crate) fn record(metric: &Metric, values: &[&str], value: f64) {
    histogram(metric, values).record(value);
}

fn key(metric: &Metric, values: &[&str]) -> Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let labels = metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

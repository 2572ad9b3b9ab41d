//! How a worker behaves, and the bounds of every value.

use std::time::Duration;

use crate::{Error, Result};

/// How a worker behaves. Every field has a default that is meant for production.
///
/// ```
/// let mut config = watchbell::worker::Config::default();
/// config.slots = 20;
/// config.check()?;
/// # Ok::<(), watchbell::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// For people, in `workers.name`; empty = host name and process id. At most 128 bytes.
    pub name: String,
    /// Queues to serve, at most 1,000; `None` = all.
    pub queues: Option<Vec<String>>,
    /// Labels `key=value` for a run's `target`; `host` and `ip` are there by themselves.
    pub labels: Vec<String>,
    /// How many runs at once, 1 to 10,000.
    pub slots: usize,
    /// How many runs beyond the slots are claimed ahead while handlers are fast, 0 to 10,000.
    pub prefetch: usize,
    /// How long a silent worker keeps its runs, 2 s to 1 hour.
    pub lease: Duration,
    /// How long to wait for runs to end when told to stop, 0 to 1 day.
    pub drain_timeout: Duration,
    /// How long a handler that was asked to stop may take, 0 to 1 hour.
    pub grace: Duration,
    /// How long finished runs are kept, 1 day to 10 years.
    pub retention: Duration,
    /// How many bytes are kept of what one attempt prints, 4 KiB to 4 MiB: half from its start, half from its end.
    pub output_limit: usize,
    /// How long its own presence session must have stood before this worker may judge others by theirs.
    pub settle: Duration,
    /// How long a transaction may last in which handlers work on rows of a watch, 100 ms to 10 minutes. It holds
    /// those rows locked, and VACUUM back, so long.
    pub watch_transaction: Duration,
    /// Do what is due, then end.
    pub once: bool,
    /// Show the values of the whole database to the recorder of [`metrics`](crate::metrics) too, not only the
    /// worker's own: one look every 15 s. Off by default.
    pub cluster_metrics: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            queues: None,
            labels: vec![],
            slots: 100,
            prefetch: 1000,
            lease: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(180),
            grace: Duration::from_secs(5),
            retention: Duration::from_secs(30 * 86_400),
            output_limit: 256 * 1024,
            settle: Duration::from_secs(5),
            watch_transaction: crate::watch::plan::TRANSACTION_MAX,
            once: false,
            cluster_metrics: false,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

impl Config {
    /// Refuses values out of bounds, naming field, value and bound.
    pub fn check(&self) -> Result<()> {
        if self.name.len() > 128 {
            return Err(Error::invalid("name", format!("{} bytes, must be at most 128", self.name.len())));
        }
        number("slots", self.slots, 1, 10_000)?;
        number("prefetch", self.prefetch, 0, 10_000)?;
        duration("lease", self.lease, 2 * SECOND, HOUR)?;
        duration("drain_timeout", self.drain_timeout, Duration::ZERO, DAY)?;
        duration("grace", self.grace, Duration::ZERO, HOUR)?;
        duration("retention", self.retention, DAY, 3650 * DAY)?;
        number("output_limit", self.output_limit, 4096, 4 * 1024 * 1024)?;
        duration("settle", self.settle, Duration::ZERO, HOUR)?;
        duration("watch_transaction", self.watch_transaction, Duration::from_millis(100), 10 * MINUTE)?;
        if let Some(queues) = &self.queues {
            number("queues", queues.len(), 1, 1000)?;
            queues.iter().try_for_each(|queue| queue_name(queue))?;
        }
        self.labels.iter().try_for_each(|label| label_pair(label))
    }
}

fn number(field: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{value} is out of range {least} to {most}")))
}

fn duration(field: &str, value: Duration, least: Duration, most: Duration) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{value:?} is out of range {least:?} to {most:?}")))
}

fn queue_name(name: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
    if good {
        return Ok(());
    }
    Err(Error::invalid(
        "queues",
        format!("\"{name}\" must be 1 to 128 letters, digits and . _ : -, a letter or digit first"),
    ))
}

fn label_pair(label: &str) -> Result<()> {
    let good = label.split_once('=').is_some_and(|(key, value)| {
        !key.is_empty() && !value.is_empty() && !value.contains('=') && !label.contains([',', ' '])
    });
    if good && label.starts_with("worker=") {
        return Err(Error::invalid("labels", format!("\"{label}\": the label worker is the worker's own number")));
    }
    if good {
        return Ok(());
    }
    Err(Error::invalid("labels", format!("\"{label}\" must be key=value without blanks and commas")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_within_its_bounds() {
        Config::default().check().unwrap();
    }

    #[test]
    fn a_value_out_of_bounds_is_named_with_its_bound() {
        let message = |config: Config| config.check().unwrap_err().to_string();
        assert_eq!(message(Config { slots: 0, ..Config::default() }), "slots: 0 is out of range 1 to 10000");
        assert_eq!(message(Config { lease: SECOND, ..Config::default() }), "lease: 1s is out of range 2s to 3600s");
        assert_eq!(
            message(Config { labels: vec!["gpu".into()], ..Config::default() }),
            "labels: \"gpu\" must be key=value without blanks and commas"
        );
        assert_eq!(
            message(Config { labels: vec!["worker=7".into()], ..Config::default() }),
            "labels: \"worker=7\": the label worker is the worker's own number"
        );
        assert_eq!(
            message(Config { queues: Some(vec!["a b".into()]), ..Config::default() }),
            "queues: \"a b\" must be 1 to 128 letters, digits and . _ : -, a letter or digit first"
        );
    }
}

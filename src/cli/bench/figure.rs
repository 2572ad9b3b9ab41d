//! One measured value, as a line.

use std::fmt;

use serde::Serialize;

/// One measured value.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// How many samples or runs it is made of.
    pub(super) n: u64,
    /// What it was measured with.
    pub(super) settings: String,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = if self.value.abs() >= 1000.0 { 0 } else { 2 };
        write!(f, "{:<34} {:>12.places$} {:<12} n={} {}", self.name, self.value, self.unit, self.n, self.settings)
    }
}

/// The value below which `share` of the samples lie (nearest rank). `samples` must be sorted.
pub(super) fn percentile(samples: &[f64], share: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples[rank.clamp(1, samples.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_sample() {
        let samples: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            [percentile(&samples, 0.5), percentile(&samples, 0.99), percentile(&samples, 1.0)],
            [50.0, 99.0, 100.0]
        );
        assert_eq!(percentile(&[7.0], 0.5), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}

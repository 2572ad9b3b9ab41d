//! Facts: what a worker says of itself beside its heartbeat. Seldom: at its start, when it drains, and when its
//! clock has moved against the database's.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Config, shared::Phase};
use crate::lifecycle::renew::Facts;

/// A skew that differs by less than this from the one that was told is no news.
const SKEW_STEP: TimeDelta = TimeDelta::milliseconds(100);

/// A heartbeat that took longer says too little about the clock.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);

/// What was told, and under which number.
#[derive(Debug, Default)]
pub(super) struct Told(Option<(i32, Facts)>);

impl Told {
    /// What to tell now, if it is news.
    pub(super) fn news(&self, worker: i32, config: &Config, phase: Phase, skew: Option<TimeDelta>) -> Option<Facts> {
        let before = self.0.filter(|(number, _)| *number == worker).map(|(_, facts)| facts);
        let known = before.map_or(TimeDelta::zero(), |facts| facts.clock_skew);
        let clock_skew = skew.filter(|skew| (*skew - known).abs() >= SKEW_STEP).unwrap_or(known);
        let drains_for = (phase >= Phase::Draining).then_some(config.drain_timeout + config.grace);
        let facts = Facts { clock_skew, retention: config.retention, drains_for };
        (before != Some(facts)).then_some(facts)
    }

    /// It has been told.
    pub(super) fn note(&mut self, worker: i32, facts: Facts) {
        self.0 = Some((worker, facts));
    }
}

/// How far this host's clock is ahead: `asked` is what it showed before a statement that took `round_trip`, and
/// the database's clock was read about half way through.
pub(super) fn skew(asked: DateTime<Utc>, round_trip: Duration, database: DateTime<Utc>) -> Option<TimeDelta> {
    let half = TimeDelta::from_std(round_trip / 2).ok()?;
    (round_trip <= ROUND_TRIP_MAX).then(|| asked + half - database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_told() {
        let config = Config::default();
        let mut told = Told::default();
        let skew = |ms| Some(TimeDelta::milliseconds(ms));
        let first = told.news(1, &config, Phase::Running, skew(3)).expect("the first is news");
        assert_eq!((first.clock_skew, first.drains_for), (TimeDelta::zero(), None));
        told.note(1, first);
        assert_eq!(told.news(1, &config, Phase::Running, skew(-99)), None);
        assert_eq!(told.news(1, &config, Phase::Running, None), None);
        assert!(told.news(2, &config, Phase::Running, None).is_some(), "another number");
        assert_eq!(told.news(1, &config, Phase::Running, skew(-5000)).map(|facts| facts.clock_skew), skew(-5000));
        let drains = told.news(1, &config, Phase::Draining, None).and_then(|facts| facts.drains_for);
        assert_eq!(drains, Some(Duration::from_secs(185)));
    }

    #[test]
    fn the_database_is_taken_to_answer_half_way() {
        let noon = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let of = |ms| skew(noon, Duration::from_millis(ms), noon);
        assert_eq!(of(40), Some(TimeDelta::milliseconds(20)));
        assert_eq!(of(501), None);
    }
}

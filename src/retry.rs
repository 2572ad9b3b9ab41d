//! How long to wait before a failed run is tried again.

use std::fmt;
use std::str::FromStr;

use chrono::TimeDelta;
use serde_json::{Map, Value};

use crate::duration::{self, shown};
use crate::schedule::jitter::{mix, scale};

/// The most delays a list may hold; no run has more attempts.
///
/// ```
/// use watchbell::retry::{LIST_MAX, RetryPolicy};
///
/// let list = |n| serde_json::json!({"strategy": "list", "list": vec!["1m"; n]});
/// assert!(RetryPolicy::from_json(&list(LIST_MAX)).is_ok());
/// assert!(RetryPolicy::from_json(&list(LIST_MAX + 1)).is_err());
/// ```
pub const LIST_MAX: usize = 100;

const BASE: TimeDelta = TimeDelta::seconds(5);
const MAX: TimeDelta = TimeDelta::hours(1);

/// What the column `retry` says: the delay before each further attempt.
///
/// The default, also where a run says nothing: 5 s, 10 s, 20 s, … up to an hour, with jitter.
///
/// ```
/// use chrono::TimeDelta;
/// use watchbell::retry::RetryPolicy;
///
/// let policy = RetryPolicy::from_json(&serde_json::json!({"strategy": "linear", "base": "10s", "jitter": false}))?;
/// assert_eq!([1, 2, 3].map(|attempt| policy.delay(attempt, 7).num_seconds()), [10, 20, 30]);
/// assert_eq!(RetryPolicy::default().to_string(), "after 5s, doubling up to 1h");
/// assert!(RetryPolicy::default().delay(1, 7) <= TimeDelta::seconds(5)); // jitter takes off up to a fifth
/// # Ok::<(), watchbell::retry::RetryError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    growth: Growth,
    /// The longest delay.
    max: TimeDelta,
    /// Whether delays are spread (see [`Self::delay`]).
    jitter: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Growth {
    /// base, 2 × base, 4 × base, …
    Exponential(TimeDelta),
    /// base, 2 × base, 3 × base, …
    Linear(TimeDelta),
    /// base each time.
    Fixed(TimeDelta),
    /// These, and then the last again; never empty.
    List(Vec<TimeDelta>),
}

/// Why a retry policy is refused, in one sentence.
///
/// ```
/// use watchbell::retry::{RetryError, RetryPolicy};
///
/// let error: RetryError = r#"{"strategy": "random"}"#.parse::<RetryPolicy>().unwrap_err();
/// assert!(error.to_string().ends_with("\"random\" is not one of exponential, linear, fixed, list"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid retry policy: {0}")]
pub struct RetryError(String);

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { growth: Growth::Exponential(BASE), max: MAX, jitter: true }
    }
}

impl RetryPolicy {
    /// Reads `{"strategy": "exponential", "base": "5s", "max": "1h", "jitter": true}`; `null` is the default.
    ///
    /// Every key may be left out. `strategy` is `exponential`, `linear`, `fixed` or `list`; `list` takes a
    /// `"list": ["1m", "10m"]` in place of `base`. `max` is an hour, and for `fixed` and `list`, or a
    /// longer `base`, whatever they say.
    ///
    /// # Errors
    /// One sentence naming the key, its value and what it may be.
    pub fn from_json(value: &Value) -> Result<Self, RetryError> {
        let object = match value {
            Value::Null => return Ok(Self::default()),
            Value::Object(object) => object,
            _ => return Err(RetryError(format!("{} is not an object", shown(&value.to_string())))),
        };
        const KNOWN: [&str; 5] = ["strategy", "base", "max", "jitter", "list"];
        if let Some(key) = object.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(RetryError(format!("unknown key \"{}\" (known: {})", shown(key), KNOWN.join(", "))));
        }
        let base = object.get("base").map(|value| delay_of("base", value)).transpose()?;
        let max = object.get("max").map(|value| delay_of("max", value)).transpose()?;
        if let (Some(base), Some(max)) = (base, max)
            && max < base
        {
            return Err(RetryError(format!("max {} is below base {}", duration::words(max), duration::words(base))));
        }
        let growth = Growth::from_json(object, base)?;
        let max = max.unwrap_or(match &growth {
            Growth::Exponential(base) | Growth::Linear(base) => MAX.max(*base),
            Growth::Fixed(_) | Growth::List(_) => duration::LONGEST,
        });
        let jitter = match object.get("jitter") {
            None => true,
            Some(Value::Bool(jitter)) => *jitter,
            Some(other) => {
                return Err(RetryError(format!("jitter {} is not true or false", shown(&other.to_string()))));
            }
        };
        Ok(Self { growth, max, jitter })
    }

    /// How long to wait after attempt number `attempt` (1 is the first) has failed. At most `max`.
    ///
    /// Jitter takes up to a fifth off, so that runs that failed together do not come back together: the
    /// "equal jitter" of Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), which
    /// keeps a part of the delay and spreads the rest. A fifth leaves each delay of a doubling longer than
    /// the one before, and near to what the policy says. The same `seed` (the run's number) and attempt
    /// always give the same delay: a statement sent twice means the same, and a preview is right.
    pub fn delay(&self, attempt: u32, seed: u64) -> TimeDelta {
        let before = attempt.saturating_sub(1);
        let ms = |delay: TimeDelta| delay.num_milliseconds();
        let full = match &self.growth {
            Growth::Exponential(base) => {
                ms(*base).saturating_mul(1_i64.checked_shl(before.min(62)).unwrap_or(i64::MAX))
            }
            Growth::Linear(base) => ms(*base).saturating_mul(i64::from(before) + 1),
            Growth::Fixed(base) => ms(*base),
            Growth::List(delays) => delays.get(before as usize).or(delays.last()).map_or(0, |delay| ms(*delay)),
        };
        let full = full.min(ms(self.max));
        let less = if self.jitter { scale(mix(mix(seed) ^ u64::from(attempt)), full as u64 / 5 + 1) as i64 } else { 0 };
        TimeDelta::milliseconds(full - less)
    }
}

impl Growth {
    fn from_json(object: &Map<String, Value>, base: Option<TimeDelta>) -> Result<Self, RetryError> {
        let exponential = Value::from("exponential");
        let strategy = object.get("strategy").unwrap_or(&exponential);
        let strategy = strategy.as_str().map_or_else(|| strategy.to_string(), str::to_owned);
        let list = object.get("list");
        let unused = match (strategy.as_str(), base, list) {
            ("list", Some(_), _) => Some("base"),
            ("exponential" | "linear" | "fixed", _, Some(_)) => Some("list"),
            _ => None,
        };
        if let Some(key) = unused {
            return Err(RetryError(format!("{key} is not used by strategy \"{strategy}\"")));
        }
        let base = base.unwrap_or(BASE);
        match strategy.as_str() {
            "exponential" => Ok(Self::Exponential(base)),
            "linear" => Ok(Self::Linear(base)),
            "fixed" => Ok(Self::Fixed(base)),
            "list" => delays_of(list).map(Self::List),
            other => {
                let known = "exponential, linear, fixed, list";
                Err(RetryError(format!("strategy \"{}\" is not one of {known}", shown(other))))
            }
        }
    }
}

impl FromStr for RetryPolicy {
    type Err = RetryError;

    /// Reads JSON text, as [`Self::from_json`].
    fn from_str(json: &str) -> Result<Self, Self::Err> {
        let value =
            serde_json::from_str(json).map_err(|e| RetryError(format!("\"{}\" is not JSON ({e})", shown(json))))?;
        Self::from_json(&value)
    }
}

impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = duration::words;
        match &self.growth {
            Growth::Exponential(base) => write!(f, "after {}, doubling up to {}", words(*base), words(self.max)),
            Growth::Linear(base) => {
                write!(f, "after {0}, {0} more each time up to {1}", words(*base), words(self.max))
            }
            Growth::Fixed(base) => write!(f, "after {} each time", words((*base).min(self.max))),
            Growth::List(delays) => {
                let delays: Vec<String> = delays.iter().map(|delay| words((*delay).min(self.max))).collect();
                write!(f, "after {}", delays.join(", "))
            }
        }
    }
}

fn delay_of(key: &str, value: &Value) -> Result<TimeDelta, RetryError> {
    let Some(text) = value.as_str() else {
        return Err(RetryError(format!("{key} {} is not a duration such as \"5s\"", shown(&value.to_string()))));
    };
    duration::parse(text).map_err(|error| RetryError(format!("{key}: {error}")))
}

fn delays_of(list: Option<&Value>) -> Result<Vec<TimeDelta>, RetryError> {
    match list {
        Some(Value::Array(delays)) if (1..=LIST_MAX).contains(&delays.len()) => {
            delays.iter().map(|value| delay_of("list", value)).collect()
        }
        Some(Value::Array(delays)) => {
            Err(RetryError(format!("list has {} delays, 1 to {LIST_MAX} are allowed", delays.len())))
        }
        _ => Err(RetryError("strategy \"list\" needs a list of durations such as [\"1m\", \"10m\"]".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(json: &str) -> RetryPolicy {
        json.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    fn seconds(policy: &RetryPolicy, attempts: u32) -> Vec<i64> {
        (1..=attempts).map(|attempt| policy.delay(attempt, 7).num_seconds()).collect()
    }

    #[test]
    fn each_strategy_grows_as_it_says() {
        for (json, expected) in [
            (r#"{"jitter": false}"#, [5, 10, 20, 40, 80]),
            (r#"{"strategy": "exponential", "base": "1m", "max": "5m", "jitter": false}"#, [60, 120, 240, 300, 300]),
            (r#"{"strategy": "linear", "base": "10 s", "jitter": false}"#, [10, 20, 30, 40, 50]),
            (r#"{"strategy": "fixed", "base": "PT1M", "jitter": false}"#, [60, 60, 60, 60, 60]),
            (r#"{"strategy": "list", "list": ["1s", "1m", "6h"], "jitter": false}"#, [1, 60, 21_600, 21_600, 21_600]),
        ] {
            assert_eq!(seconds(&policy(json), 5), expected, "{json}");
        }
    }

    #[test]
    fn the_default_doubles_from_five_seconds_to_an_hour() {
        let plain = RetryPolicy { jitter: false, ..RetryPolicy::default() };
        let expected = [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600];
        assert_eq!(seconds(&plain, 12), expected);
        assert_eq!(plain.delay(u32::MAX, 0), TimeDelta::hours(1));
        assert_eq!(policy("null"), RetryPolicy::default());
        assert_eq!(policy("{}"), RetryPolicy::default());
        assert_eq!(RetryPolicy::default().to_string(), "after 5s, doubling up to 1h");
    }

    #[test]
    fn a_refused_policy_names_the_key_and_what_it_may_be() {
        for (json, problem) in [
            (r#"{"strategy": "random"}"#, "strategy \"random\" is not one of exponential, linear, fixed, list"),
            (r#"{"strategy": 5}"#, "strategy \"5\" is not one of exponential, linear, fixed, list"),
            (r#"{"bas": "5s"}"#, "unknown key \"bas\" (known: strategy, base, max, jitter, list)"),
            (r#"{"base": 5}"#, "base 5 is not a duration such as \"5s\""),
            (r#"{"base": "5"}"#, "base: invalid duration \"5\": it has no unit (use ms, s, m, h, d or w)"),
            (r#"{"base": "1h", "max": "5m"}"#, "max 5m is below base 1h"),
            (r#"{"jitter": "yes"}"#, "jitter \"yes\" is not true or false"),
            (r#"{"strategy": "list"}"#, "strategy \"list\" needs a list of durations such as [\"1m\", \"10m\"]"),
            (r#"{"strategy": "list", "list": []}"#, "list has 0 delays, 1 to 100 are allowed"),
            (r#"{"strategy": "list", "list": ["1s"], "base": "1s"}"#, "base is not used by strategy \"list\""),
            (r#"{"list": ["1s"]}"#, "list is not used by strategy \"exponential\""),
            ("[]", "[] is not an object"),
        ] {
            let error = json.parse::<RetryPolicy>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid retry policy: {problem}"));
        }
    }

    proptest! {
        #[test]
        fn jitter_takes_off_at_most_a_fifth_and_is_the_same_each_time(attempt in 1..100_u32, seed in any::<u64>()) {
            let policy = RetryPolicy::default();
            let full = RetryPolicy { jitter: false, ..policy.clone() }.delay(attempt, seed);
            let delay = policy.delay(attempt, seed);
            prop_assert_eq!(delay, policy.delay(attempt, seed));
            prop_assert!(delay <= full && delay * 5 >= full * 4, "{} of {}", delay, full);
        }

        #[test]
        fn no_attempt_panics(attempt in any::<u32>(), seed in any::<u64>(), base in 0..=duration::LONGEST.num_milliseconds()) {
            let base = TimeDelta::milliseconds(base);
            for growth in [Growth::Exponential(base), Growth::Linear(base), Growth::Fixed(base), Growth::List(vec![base])] {
                let policy = RetryPolicy { growth, max: duration::LONGEST, jitter: true };
                let delay = policy.delay(attempt, seed);
                prop_assert!(delay >= TimeDelta::zero() && delay <= duration::LONGEST);
            }
        }
    }
}

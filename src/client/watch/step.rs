//! One step of a watch that has several.

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::options::{Work, options};
use super::text;
use crate::client::new_run::Timeout;

/// One step of a [`Watch`](super::Watch): from a state through a handler to the next.
///
/// `to` and `handler` are required; everything else is as the watch says.
///
/// ```
/// use watchbell::client::Step;
/// use watchbell::hours;
///
/// let train = Step::from("downloaded").via("training").to("normal").on_error("untrained").handler("train");
/// let train = train.timeout(hours(12)).max_attempts(1).max_running(2);
/// # let _ = train;
/// ```
#[derive(Debug, Clone)]
pub struct Step {
    pub(super) work: Work,
}

options!(Step);

impl Step {
    /// Takes rows in this state; no other step of the watch may begin there.
    pub fn from(state: impl Into<String>) -> Self {
        Self { work: Work { from: Some(state.into()), ..Work::default() } }
    }
}

/// An element of the column `transitions`.
#[derive(Serialize)]
struct Transition<'a> {
    from: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: &'a Option<String>,
    to: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: &'a Option<String>,
    handler: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Option<Interval>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_size: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_running: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_period: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_by: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: &'a Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Interval(#[serde(serialize_with = "text")] Duration);

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let work = &self.work;
        // both were checked when they were given
        let raw = |text: &Option<String>| text.clone().and_then(|text| RawValue::from_string(text).ok());
        let transition = Transition {
            from: &work.from,
            via: &work.via,
            to: &work.to,
            error: &work.error,
            handler: &work.handler,
            payload: raw(&work.payload),
            retry: raw(&work.retry),
            max_attempts: work.max_attempts,
            timeout: match work.timeout {
                Timeout::Default => None,
                Timeout::None => Some(None),
                Timeout::Of(limit) => Some(Some(Interval(limit))),
            },
            mode: work.mode,
            batch_size: work.batch_size,
            max_running: work.max_running,
            rate_limit: work.rate.map(|(rows, _)| rows),
            rate_period: work.rate.map(|(_, period)| Interval(period)),
            order_by: &work.order_by,
            filter: &work.filter,
        };
        transition.serialize(serializer)
    }
}

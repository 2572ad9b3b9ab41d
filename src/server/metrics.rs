//! `/metrics`, and the recorder behind it.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use tokio::time::{self, Instant};

use super::Site;
use crate::error::{Error, Result};
use crate::metrics::{self, list};

/// A gauge that was not set for so long is not shown any more: its schedule or queue is gone, or the database is.
const GAUGES_KEPT: Duration = Duration::from_secs(60);

/// How often observations are put into their buckets: until then each takes 8 bytes.
const UPKEEP: Duration = Duration::from_secs(1);

/// What every metric of this process goes to.
#[derive(Debug, Clone)]
pub(crate) struct Recorder(PrometheusHandle);

impl Recorder {
    /// Installs it, once in a process and before its worker starts.
    ///
    /// # Errors
    /// There is one already.
    pub(crate) fn install() -> Result<Self> {
        let refused = |error: &dyn std::fmt::Display| Error::invalid("metrics", error.to_string());
        let mut builder = PrometheusBuilder::new().idle_timeout(MetricKindMask::GAUGE, Some(GAUGES_KEPT));
        for metric in metrics::ALL.iter().filter(|metric| !metric.buckets.is_empty()) {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
                .map_err(|error| refused(&error))?;
        }
        let recorder = builder.install_recorder().map_err(|error| refused(&error))?;
        metrics::describe();
        Ok(Self(recorder))
    }

    /// Keeps its memory small, for ever.
    pub(super) async fn keep_up(&self) {
        let mut tick = time::interval(UPKEEP);
        loop {
            tick.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// All of them, in the text format of Prometheus.
pub(super) async fn show(State(site): State<Site>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], site.recorder.0.render())
}

/// Counts and times every request, by a route of a few.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let route = match request.uri().path() {
        "/metrics" => "/metrics",
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        "/" => "/",
        _ => "other",
    };
    let began = Instant::now();
    let response = next.run(request).await;
    metrics::count(&list::HTTP_REQUESTS, &[route, response.status().as_str()], 1);
    metrics::record(&list::HTTP_REQUEST_DURATION, &[route], began.elapsed().as_secs_f64());
    response
}

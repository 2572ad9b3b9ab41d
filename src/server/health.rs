//! `/healthz`: the process answers. `/readyz`: its worker can do its work.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Site;

/// That this is answered is the answer: the process lives, whatever the database does. Restarting it for a database
/// that is away would help nobody.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// 200, or 503 with the checks that fail: a line each, or JSON if that is asked for.
pub(super) async fn ready(State(site): State<Site>, headers: HeaderMap) -> Response {
    let readiness = site.health.ready();
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    if !accepted.contains("application/json") {
        return (status, readiness.to_string()).into_response();
    }
    let checks: Vec<_> = readiness
        .checks
        .iter()
        .map(|check| json!({"name": check.name, "ok": check.ok, "detail": check.detail}))
        .collect();
    (status, Json(json!({"ready": readiness.is_ready(), "checks": checks}))).into_response()
}

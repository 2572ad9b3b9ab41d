//! A server in the test's own process, whose paths misbehave in their own ways.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tokio::{net::TcpListener, time};

/// What the server was asked.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) uri: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// A server in this process, whose paths misbehave in their own ways.
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) calls: Arc<Mutex<Vec<Call>>>,
    broken: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counted when an answer is no longer wanted.
struct Broken(Arc<Mutex<usize>>);

impl Drop for Broken {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

type Seen = (Arc<Mutex<Vec<Call>>>, Arc<Mutex<usize>>);

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (calls, broken) = Seen::default();
        let router = axum::Router::new().fallback(any(answer)).with_state((Arc::clone(&calls), Arc::clone(&broken)));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, calls, broken, task }
    }

    /// Waits until so many answers were broken off.
    pub(super) async fn hung_up(&self, count: usize) {
        for _ in 0..200 {
            if *self.broken.lock().unwrap() >= count {
                return;
            }
            time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{} of {count} answers were broken off", self.broken.lock().unwrap());
    }
}

async fn answer(State((calls, broken)): State<Seen>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let count = {
        let mut calls = calls.lock().unwrap();
        let (method, uri) = (parts.method, parts.uri.to_string());
        calls.push(Call { method, uri, headers: parts.headers, body: body.clone() });
        calls.len()
    };
    let path = parts.uri.path();
    if let Some(status) = path.strip_prefix("/status/") {
        let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
        return (status, format!("it is status {}", status.as_u16())).into_response();
    }
    if path.starts_with("/fail/") {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("failed at {}", parts.uri)).into_response();
    }
    match path {
        "/echo" => "echoed".into_response(),
        "/redirect" => {
            (StatusCode::TEMPORARY_REDIRECT, [("location", parts.uri.query().unwrap().to_owned())]).into_response()
        }
        "/busy-once" if count == 1 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response(),
        "/hang" => {
            let _broken = Broken(broken);
            std::future::pending().await
        }
        "/endless" => {
            let broken = Broken(broken);
            let line = Bytes::from("0123456789abcde\n".repeat(64));
            let lines = futures_util::stream::repeat_with(move || {
                let _ = &broken;
                Ok::<_, std::io::Error>(line.clone())
            });
            axum::body::Body::from_stream(lines).into_response()
        }
        "/repeat" => {
            // in pieces of three bytes, so that a secret is never in one
            let pieces: Vec<_> =
                body.as_bytes().chunks(3).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
            let pieces = pieces.into_iter().chain([Ok(Bytes::from("\nover"))]);
            axum::body::Body::from_stream(futures_util::stream::iter(pieces)).into_response()
        }
        _ => "".into_response(),
    }
}

//! The HTTP port of the program: `/metrics`, `/healthz` and `/readyz`.
//!
//! **In** requests of whoever reaches the address, loopback unless asked otherwise: there is no login yet, and so
//! nothing here changes anything or shows what runs were given or printed. **Out** text. **Lock** none. **Crash** the
//! worker goes on without it; nothing here asks the database, so no request can slow it down or wait for it.

mod health;
mod listen;
mod metrics;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use listen::{Address, DEFAULT_PORT, bind, bind_somewhere, free};
pub(crate) use metrics::Recorder;

use crate::error::{Error, Result};
use crate::worker::Health;

/// How long requests may take that are under way at the end.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// What requests are answered from.
#[derive(Debug, Clone)]
struct Site {
    recorder: Recorder,
    health: Health,
}

/// The running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    end: DropGuard,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers requests from now on.
    ///
    /// # Errors
    /// The operating system's, if it does not say the address.
    pub(crate) fn start(listener: TcpListener, recorder: Recorder, health: Health) -> Result<Self> {
        let address = listener.local_addr().map_err(|e| Error::io("asking for the address of the HTTP port", e))?;
        let end = CancellationToken::new();
        let site = Site { recorder, health };
        let serving = axum::serve(listener, routes(site.clone())).with_graceful_shutdown(end.clone().cancelled_owned());
        let task = tokio::spawn(async move {
            tokio::select! {
                served = serving => if let Err(error) = served {
                    tracing::error!(%error, "the HTTP port has ended; the worker goes on without it");
                },
                () = site.recorder.keep_up() => {}
            }
        });
        Ok(Self { address, end: end.drop_guard(), task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, once requests under way are answered.
    pub(crate) async fn stop(self) {
        drop(self.end);
        let _ = tokio::time::timeout(LAST_REQUESTS, self.task).await;
    }
}

fn routes(site: Site) -> Router {
    Router::new()
        .route("/", get(async || "watchbell: /metrics /healthz /readyz\n"))
        .route("/metrics", get(metrics::show))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(async || (StatusCode::NOT_FOUND, "not found; there are /metrics, /healthz and /readyz\n"))
        .layer(axum::middleware::from_fn(metrics::count))
        .with_state(site)
}

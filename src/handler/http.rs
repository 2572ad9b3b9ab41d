//! The handler `http`: a run is the call of a web address.
//!
//! Its payload, of which only `url` is required:
//!
//! ```json
//! {"url": "https://api.example.com/orders", "method": "POST",
//!  "headers": {"authorization": {"$secret": "TOKEN", "prefix": "Bearer "}},
//!  "body": {"order": 7}, "success": ["2xx", 409], "expect_body": "\"state\": *\"ok\"",
//!  "timeout": "30s", "follow_redirects": 2}
//! ```
//!
//! **A success** is an answer whose status `success` names (`2xx` unless said otherwise) and whose body, as far
//! as it is kept, matches `expect_body`. The status, the time taken and the body go to the run's output.
//!
//! **What fails** is tried again by the run's retry policy: no connection, no answer in time, any other status.
//! The delay that `Retry-After` asks for is kept, up to an hour. Fatal are a payload that does not fit, an
//! address that may not be called, and the statuses that blame the request itself (400, 405, 406, 410, 411,
//! 413, 414, 415, 417, 422, 431, 501, 505).
//!
//! **Where it may go**: addresses of the public internet, however the host is written and whatever its name
//! resolves to, and what [`Http::allow`] adds. The name is resolved once and the connection goes to an address
//! that was looked at; it is closed after the call. No proxy and no cookie of the environment is used. With
//! `follow_redirects` each hop is judged anew, and another origin gets none of the payload's headers.
//!
//! **Whoever is called** gets `Idempotency-Key`, the run's number, the same in every attempt (unless the payload
//! sets its own), and `X-Watchbell-Attempt`.
//!
//! **For a watched row** the body is the row as JSON, an object of its columns, where the payload gives none and the
//! method is none of GET, HEAD, DELETE and OPTIONS; `Idempotency-Key` is [`Context::idempotency_key`].
//!
//! **Limits** that are asked for are kept inside those of this module:
//!
//! ```
//! use watchbell::handler::http::{CONNECT_TIMEOUT, Http, RESPONSE_BYTES, RESPONSE_BYTES_MAX, TIMEOUT};
//!
//! let patient = Http::new().timeout(2 * TIMEOUT).connect_timeout(CONNECT_TIMEOUT / 2).response_bytes(4 * RESPONSE_BYTES);
//! assert!(4 * RESPONSE_BYTES <= RESPONSE_BYTES_MAX);
//! # let _ = patient;
//! ```

mod address;
mod body;
mod call;
mod payload;
mod special;
mod success;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::time;

use super::secret::{Mask, Secrets, refers};
use super::{Context, Handler, HandlerResult, Outcome, fatal};
use address::Gate;
use call::Caller;
use payload::Request;
use tls::Tls;

pub use address::Allowed;

/// Longest answer that is kept, in bytes, unless configured otherwise.
pub const RESPONSE_BYTES: usize = 64 * 1024;
/// Longest answer that may be configured to be kept.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a call may take if its payload does not say.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// How long connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The parts of a payload that may refer to secrets.
const SECRET_PLACES: [&str; 3] = ["url", "headers", "body"];

/// The handler `http`.
///
/// ```
/// use watchbell::Registry;
/// use watchbell::handler::http::Http;
/// use watchbell::handler::secret::Secret;
///
/// let http = Http::new()
///     .allow("hooks.internal:8080".parse()?)
///     .secrets([Secret::env("TOKEN", "API_TOKEN").only_for("api.example.com")].into_iter().collect());
/// let registry = Registry::new().handler("http", http);
/// # assert_eq!(registry.names(), ["http"]);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone)]
pub struct Http {
    gate: Gate,
    secrets: Secrets,
    timeout: Duration,
    connect_timeout: Duration,
    response_bytes: usize,
    tls: Arc<Tls>,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// For public addresses, without secrets.
    pub fn new() -> Self {
        Self {
            gate: Gate::default(),
            secrets: Secrets::default(),
            timeout: TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            response_bytes: RESPONSE_BYTES,
            tls: Arc::new(Tls::default()),
        }
    }

    /// Allows calls of a host or network that is not public; may be called several times.
    #[must_use]
    pub fn allow(mut self, allowed: Allowed) -> Self {
        self.gate.allowed.push(allowed);
        self
    }

    /// The secrets that payloads may refer to, in `url`, `headers` and `body`.
    #[must_use]
    pub fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// How long a call may take if its payload does not say; a minute by default. The run's own `timeout` is
    /// the upper bound.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long connecting may take; 10 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How much of an answer is read and kept, in bytes, at most [`RESPONSE_BYTES_MAX`]; 64 KiB by default.
    #[must_use]
    pub fn response_bytes(mut self, most: usize) -> Self {
        self.response_bytes = most.min(RESPONSE_BYTES_MAX);
        self
    }

    /// Answers for this host name, in lower case, instead of the system's resolver. Which of the addresses may
    /// be called is judged all the same.
    #[must_use]
    pub fn resolve(mut self, name: impl Into<String>, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.gate.known.insert(name.into(), addresses.into_iter().collect());
        self
    }

    /// Where a call of this address would go: the addresses that may be connected to.
    ///
    /// # Errors
    /// As for a run: fatal if no call may go there, otherwise the name could not be resolved.
    pub async fn addresses(&self, url: &str) -> HandlerResult<Vec<SocketAddr>> {
        self.gate.addresses(&payload::url(url).map_err(fatal)?).await
    }

    async fn run(&self, ctx: &Context) -> HandlerResult {
        let mut payload: Value = super::extract::payload(ctx)?;
        let mut places = Map::new();
        if let Value::Object(keys) = &mut payload {
            // no other: errors quote them, and cut the quotation, which the mask could not recognise
            places.extend(SECRET_PLACES.iter().filter_map(|key| keys.remove_entry(*key)));
        }
        let mut places = Value::Object(places);
        let used = self.secrets.resolve_for_host(&mut places).await?;
        if let (Value::Object(keys), Value::Object(resolved)) = (&mut payload, places) {
            keys.extend(resolved);
        }
        let call = async {
            let request = Request::of(&payload, ctx.row()).map_err(fatal)?;
            used.check(request.url.host_str().unwrap_or_default())?;
            self.call(&request, ctx, &used.mask).await
        };
        call.await.map_err(|error| used.mask.error(&error))
    }

    async fn call(&self, request: &Request, ctx: &Context, mask: &Mask) -> HandlerResult {
        let caller = Caller {
            gate: &self.gate,
            tls: &self.tls,
            connect_timeout: self.connect_timeout,
            response_bytes: self.response_bytes,
            ctx,
            mask,
        };
        let limit = request.timeout.unwrap_or(self.timeout);
        let (method, url) = (&request.method, &request.url);
        tokio::select! {
            called = time::timeout(limit, caller.call(request)) => called.unwrap_or_else(|_| {
                let limit = crate::duration::words(chrono::TimeDelta::from_std(limit).unwrap_or_default());
                Err(format!("{method} {url}: no complete answer within {limit}").into())
            }),
            () = ctx.cancelled() => Err(format!("{method} {url}: the call was broken off").into()),
        }
    }
}

impl Handler for Http {
    fn call(&self, ctx: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(async move { self.run(&ctx).await.map_or_else(Outcome::Failed, |()| Outcome::Done) })
    }

    /// All that is known before the row is: the keys, and an address that may not be called.
    fn check_payload(&self, payload: &str) -> Result<(), String> {
        let payload: Value = serde_json::from_str(payload).map_err(|e| e.to_string())?;
        if refers(&payload) {
            return Ok(()); // secrets are read for an attempt only
        }
        self.gate.check(&Request::of(&payload, Some("{}"))?.url)
    }
}

//! One call: judge the address, connect to it, send, read, and follow a redirect if that is wanted.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{
    Client, Method, Response, StatusCode, Url,
    dns::{Name, Resolve, Resolving},
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT},
    redirect, retry,
};
use tokio::time::Instant;

use super::{
    address::Gate,
    body::Body,
    payload::{self, Request},
    success::{is_final, retry_after},
    tls::Tls,
};
use crate::handler::{Context, HandlerError, HandlerResult, fatal, secret::Mask};

const PRODUCT: &str = concat!("watchbell/", env!("CARGO_PKG_VERSION"));

/// What a call is made with.
pub(super) struct Caller<'a> {
    pub(super) gate: &'a Gate,
    pub(super) tls: &'a Tls,
    pub(super) connect_timeout: Duration,
    pub(super) response_bytes: usize,
    pub(super) ctx: &'a Context,
    pub(super) mask: &'a Mask,
}

/// What the next request says; redirects change it.
struct Hop {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Option<String>,
}

impl Caller<'_> {
    /// Makes the call; a success is an answer that is one.
    pub(super) async fn call(&self, request: &Request) -> HandlerResult {
        let mut hop = Hop {
            url: request.url.clone(),
            method: request.method.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
        };
        let mut left = request.redirects_max;
        loop {
            let (mut response, began) = self.send(&hop).await?;
            if left > 0
                && !request.success.has(response.status())
                && let Some(target) = target(&hop.url, &response)?
            {
                self.say(&hop, &response, began, "");
                hop = hop.towards(target, response.status())?;
                left -= 1;
                continue;
            }
            let body = Body::read(&mut response, self.response_bytes, self.mask)
                .await
                .map_err(|error| failed(&hop, "the answer broke off", error))?;
            let cut = if body.is_cut { ", cut there" } else { "" };
            self.say(&hop, &response, began, &format!(", {} bytes{cut}", body.len()));
            body.log(self.ctx);
            return judge(request, &hop, &response, &body);
        }
    }

    async fn send(&self, hop: &Hop) -> HandlerResult<(Response, Instant)> {
        let began = Instant::now();
        let addresses = self.gate.addresses(&hop.url).await?;
        let client = self.client(hop, &addresses)?;
        let mut request = client.request(hop.method.clone(), hop.url.clone()).headers(self.own_headers());
        // these replace ours
        request = request.headers(hop.headers.clone());
        if let Some(body) = &hop.body {
            request = request.body(body.clone());
        }
        let response = request.send().await.map_err(|error| {
            let what = if error.is_connect() { "no connection" } else { "no answer" };
            failed(hop, what, error)
        })?;
        Ok((response, began))
    }

    /// A client for one connection to one of these addresses. A connection is not kept: one that was idle may
    /// be closed just when the next call is sent, and whether that call arrived would not be known.
    fn client(&self, hop: &Hop, addresses: &[SocketAddr]) -> HandlerResult<Client> {
        if hop.url.scheme() == "https" {
            self.tls.check()?;
        }
        let client = Client::builder()
            .tls_backend_preconfigured(self.tls.config())
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .pool_max_idle_per_host(0)
            .connect_timeout(self.connect_timeout)
            .dns_resolver(Arc::new(NoResolver))
            .resolve_to_addrs(hop.url.host_str().unwrap_or_default(), addresses)
            .build();
        client.map_err(|error| failed(hop, "the call could not be prepared", error))
    }

    /// Who calls, for which run.
    fn own_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(PRODUCT));
        if let Ok(key) = HeaderValue::from_str(&self.ctx.idempotency_key()) {
            headers.insert(HeaderName::from_static("idempotency-key"), key);
        }
        headers.insert(HeaderName::from_static("x-watchbell-attempt"), HeaderValue::from(self.ctx.attempt()));
        headers
    }

    fn say(&self, hop: &Hop, response: &Response, began: Instant, more: &str) {
        let took = began.elapsed().as_millis();
        let line = format!("{} {} -> {} in {took} ms{more}", hop.method, hop.url, response.status());
        self.ctx.log(self.mask.text(&line));
    }
}

impl Hop {
    /// The request that a redirect asks for, as browsers make it.
    fn towards(mut self, target: Url, status: StatusCode) -> HandlerResult<Self> {
        let becomes_get = status == StatusCode::SEE_OTHER && self.method != Method::HEAD
            || matches!(status.as_u16(), 301 | 302) && self.method == Method::POST;
        if becomes_get {
            (self.method, self.body) = (Method::GET, None);
            self.headers.remove(CONTENT_TYPE);
        }
        if self.url.origin() != target.origin() {
            // any header may be a password
            self.headers.clear();
            if self.body.is_some() {
                let (from, method) = (&self.url, &self.method);
                return Err(fatal(format!(
                    "{method} {from}: redirects to another origin, to which the body is not sent"
                )));
            }
        }
        self.url = target;
        Ok(self)
    }
}

/// Where a redirect leads, if this answer is one.
fn target(from: &Url, response: &Response) -> HandlerResult<Option<Url>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
    let target = std::str::from_utf8(location.as_bytes()).ok().and_then(|text| from.join(text).ok());
    let target = target.ok_or_else(|| HandlerError::from(format!("{from}: redirects to no address")))?;
    payload::url(target.as_str())
        .map(Some)
        .map_err(|problem| fatal(format!("{from}: redirects where no call may go: {problem}")))
}

/// Whether the answer is a success.
fn judge(request: &Request, hop: &Hop, response: &Response, body: &Body) -> HandlerResult {
    let (status, call) = (response.status(), format!("{} {}", hop.method, hop.url));
    if !request.success.has(status) {
        let said = body.beginning();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let more = match (status.is_redirection() && response.headers().contains_key(LOCATION), request.redirects_max) {
            (true, 0) => "; redirects are not followed unless the payload says so (\"follow_redirects\")",
            (true, _) => "; more redirects than the payload allows (\"follow_redirects\")",
            (false, _) => "",
        };
        let text = format!("{call}: answered {status}, not {}{more}{said}", request.success);
        let mut error = if is_final(status) { fatal(text) } else { text.into() };
        error.after = retry_after(response.headers()).filter(|_| !error.fatal);
        return Err(error);
    }
    if let Some(pattern) = &request.expect_body
        && !pattern.is_match(&body.text())
    {
        let cut = if body.is_cut { " as far as it was read" } else { "" };
        return Err(format!(
            "{call}: answered {status}, but the body does not match \"expect_body\"{cut}: {}",
            body.beginning()
        )
        .into());
    }
    Ok(())
}

/// A failure of the transport, told without the URL that reqwest would repeat.
fn failed(hop: &Hop, what: &str, error: reqwest::Error) -> HandlerError {
    let problem = HandlerError::from(error.without_url());
    format!("{} {}: {what}: {problem}", hop.method, hop.url).into()
}

/// Knows no name: the addresses were looked up and judged before.
struct NoResolver;

impl Resolve for NoResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move { Err(format!("{} was not looked up", name.as_str()).into()) })
    }
}

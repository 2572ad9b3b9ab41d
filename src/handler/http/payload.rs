//! What a payload asks for, checked before anything is sent.

use std::time::Duration;

use regex::{Regex, RegexBuilder};
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Map, Value};

use super::success::Success;
use crate::{duration, nearest::did_you_mean_one_of};

const KEYS: [&str; 8] = ["url", "method", "headers", "body", "success", "expect_body", "timeout", "follow_redirects"];
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Those that are sent without a body unless their payload gives one.
const BODILESS: [&str; 4] = ["GET", "HEAD", "DELETE", "OPTIONS"];
/// Longest address, in bytes.
const URL_BYTES_MAX: usize = 8 * 1024;
/// Most headers, and most bytes of their names and values together.
const HEADERS_MAX: usize = 100;
const HEADERS_BYTES_MAX: usize = 32 * 1024;
/// Longest pattern, and most bytes of memory that it may take once compiled.
const PATTERN_BYTES_MAX: usize = 1024;
const PATTERN_SIZE_MAX: usize = 1024 * 1024;
const REDIRECTS_MAX: u64 = 10;
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// Headers that belong to the connection, or say what the call itself says.
const OURS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A call as a payload describes it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<String>,
    pub(super) success: Success,
    pub(super) expect_body: Option<Regex>,
    pub(super) timeout: Option<Duration>,
    pub(super) redirects_max: u64,
}

impl Request {
    /// The payload's, or what is wrong with it in one sentence. A watched row is the body, where the payload gives none
    /// and its method can have one; it is passed on as the database wrote it.
    pub(super) fn of(payload: &Value, row: Option<&str>) -> Result<Self, String> {
        let keys = payload.as_object().ok_or("the payload must be an object with a \"url\"")?;
        if let Some(unknown) = keys.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let near = did_you_mean_one_of(unknown, &KEYS);
            return Err(format!("the payload's key \"{}\" is unknown{near}", duration::shown(unknown)));
        }
        let asked = text(keys, "method")?;
        let row = row.filter(|_| !asked.is_some_and(|method| BODILESS.contains(&method.to_ascii_uppercase().as_str())));
        let (body, is_json) = match given(keys, "body") {
            None => (row.map(str::to_owned), row.is_some()),
            Some(Value::String(text)) => (Some(text.clone()), false),
            Some(other) => (Some(other.to_string()), true),
        };
        let mut headers = given(keys, "headers").map_or_else(|| Ok(HeaderMap::new()), headers)?;
        if is_json && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Self {
            url: url(text(keys, "url")?.ok_or("the payload has no \"url\"")?)?,
            method: method(asked, body.is_some())?,
            headers,
            body,
            success: given(keys, "success").map_or_else(|| Ok(Success::default()), Success::of)?,
            expect_body: text(keys, "expect_body")?.map(pattern).transpose()?,
            timeout: given(keys, "timeout").map(timeout).transpose()?,
            redirects_max: given(keys, "follow_redirects").map_or(Ok(0), redirects)?,
        })
    }
}

/// A key's value; `null` is as good as none.
fn given<'a>(keys: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    keys.get(key).filter(|value| !value.is_null())
}

fn text<'a>(keys: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    given(keys, key).map(|value| value.as_str().ok_or_else(|| format!("\"{key}\": must be a string"))).transpose()
}

/// An address as it may be called, whether from a payload or from a redirect.
pub(super) fn url(text: &str) -> Result<Url, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("\"url\": has {} bytes, at most {URL_BYTES_MAX} are allowed", text.len()));
    }
    // not quoted: a part of a secret could stand where the quotation is cut
    let mut url = Url::parse(text).map_err(|error| format!("\"url\": {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("\"url\": must begin with http:// or https://, not {}:", duration::shown(url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("\"url\": must not hold a user or password; send them in the header Authorization, \
                    as a secret"
            .to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Err("\"url\": has no host or port to call".to_owned());
    }
    url.set_fragment(None);
    Ok(url)
}

fn method(given: Option<&str>, has_body: bool) -> Result<Method, String> {
    let name = given.unwrap_or(if has_body { "POST" } else { "GET" }).to_ascii_uppercase();
    if !METHODS.contains(&name.as_str()) {
        return Err(format!("\"method\": \"{}\" is none of {}", duration::shown(&name), METHODS.join(", ")));
    }
    Method::from_bytes(name.as_bytes()).map_err(|error| format!("\"method\": {error}"))
}

/// `{"name": "value"}`, or a list of values for a header that stands several times.
fn headers(value: &Value) -> Result<HeaderMap, String> {
    let named = value.as_object().ok_or("\"headers\": must be an object of names and values")?;
    let (mut headers, mut bytes) = (HeaderMap::new(), 0);
    for (key, values) in named {
        let name = HeaderName::from_bytes(key.as_bytes())
            .map_err(|_| format!("\"headers\": \"{}\" is no name of a header", duration::shown(key)))?;
        if OURS.contains(&name.as_str()) {
            return Err(format!("\"headers\": \"{name}\" belongs to the connection and cannot be set"));
        }
        let values = values.as_array().map_or_else(|| std::slice::from_ref(values), Vec::as_slice);
        for value in values {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => return Err(format!("\"headers\": \"{name}\" must be a string, or a list of strings")),
            };
            bytes += key.len() + value.len();
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| format!("\"headers\": the value of \"{name}\" has a control character"))?;
            // any may be a password: logs of the crates below do not show it
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
    }
    if headers.len() > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
        let found = headers.len();
        return Err(format!(
            "\"headers\": {found} with {bytes} bytes are too many, at most {HEADERS_MAX} with {HEADERS_BYTES_MAX}"
        ));
    }
    Ok(headers)
}

fn pattern(text: &str) -> Result<Regex, String> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!("\"expect_body\": has {} bytes, at most {PATTERN_BYTES_MAX} are allowed", text.len()));
    }
    RegexBuilder::new(text).size_limit(PATTERN_SIZE_MAX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("\"expect_body\": takes more than {limit} bytes once compiled"),
        error => {
            // the last line of the parser's drawing says what is wrong
            let said = error.to_string();
            let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("\"expect_body\": is no regular expression: {last}")
        }
    })
}

/// A duration such as "30s", or a number of seconds.
fn timeout(value: &Value) -> Result<Duration, String> {
    let found = match value {
        Value::Number(seconds) => seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        Value::String(text) => duration::parse(text).ok().and_then(|length| length.to_std().ok()),
        _ => None,
    };
    found.filter(|length| !length.is_zero() && *length <= TIMEOUT_MAX).ok_or_else(|| {
        let shown = duration::shown(&value.to_string());
        format!("\"timeout\": {shown} must be a duration such as \"30s\", or seconds, at most a day")
    })
}

fn redirects(value: &Value) -> Result<u64, String> {
    let count = value.as_u64().filter(|count| *count <= REDIRECTS_MAX);
    count.ok_or_else(|| {
        let shown = duration::shown(&value.to_string());
        format!("\"follow_redirects\": {shown} must be a number, 0 to {REDIRECTS_MAX}")
    })
}

//! Which answers are a success, and what the others mean.

use std::{fmt, ops::RangeInclusive, time::Duration};

use chrono::DateTime;
use reqwest::{
    StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
};
use serde_json::Value;

/// Most parts of a list.
const PARTS_MAX: usize = 100;
/// Longest wait that an answer may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The status codes that are a success: `"2xx"`, `"200-299"`, `204`, or a list of such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Success(Vec<RangeInclusive<u16>>);

impl Default for Success {
    fn default() -> Self {
        Self(vec![200..=299])
    }
}

impl Success {
    pub(super) fn of(value: &Value) -> Result<Self, String> {
        let parts = match value {
            Value::Array(list) if list.is_empty() || list.len() > PARTS_MAX => {
                return Err(format!("\"success\": must list 1 to {PARTS_MAX} status codes, not {}", list.len()));
            }
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut ranges = vec![];
        for part in parts {
            match part {
                Value::String(text) => {
                    for word in text.split(',').map(str::trim) {
                        ranges.push(range(word).ok_or_else(|| malformed(part))?);
                    }
                }
                Value::Number(_) => ranges.push(range(&part.to_string()).ok_or_else(|| malformed(part))?),
                _ => return Err(malformed(part)),
            }
        }
        Ok(Self(ranges))
    }

    pub(super) fn has(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl fmt::Display for Success {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            match (*range.start(), *range.end()) {
                (first, last) if first == last => write!(f, "{first}")?,
                (first, last) if first % 100 == 0 && last == first + 99 => write!(f, "{}xx", first / 100)?,
                (first, last) => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

fn malformed(part: &Value) -> String {
    let shown = crate::duration::shown(&part.to_string());
    format!(
        "\"success\": {shown} must be a status code 100 to 599, a class such as \"2xx\" or a range such as \"200-299\""
    )
}

fn range(word: &str) -> Option<RangeInclusive<u16>> {
    let code = |text: &str| text.parse::<u16>().ok().filter(|code| text.len() == 3 && (100..=599).contains(code));
    if let Some(class) = word.strip_suffix("xx").or_else(|| word.strip_suffix("XX")) {
        let first = code(&format!("{class}00"))?;
        return Some(first..=first + 99);
    }
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (code(first.trim())?, code(last.trim())?);
    (first <= last).then_some(first..=last)
}

/// Whether the same request would be answered the same: the server says that the request itself is at fault.
pub(super) fn is_final(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405 | 406 | 410 | 411 | 413 | 414 | 415 | 417 | 422 | 431 | 501 | 505)
}

/// How long the server asks to wait: seconds, or a time by its own clock. At most an hour.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if text.bytes().all(|b| b.is_ascii_digit()) {
        // more digits than a number has are a long time too
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let now = DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok()?;
        (DateTime::parse_from_rfc2822(text).ok()? - now).to_std().unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn successes_are_read_in_every_form() {
        for (given, shown) in [
            (json!("2xx"), "2xx"),
            (json!("200-299"), "2xx"),
            (json!([200, 202]), "200, 202"),
            (json!(204), "204"),
            (json!(["2xx", 304, "400-404"]), "2xx, 304, 400-404"),
            (json!("2xx, 404"), "2xx, 404"),
        ] {
            assert_eq!(Success::of(&given).unwrap().to_string(), shown);
        }
        for bad in [
            json!("200-"),
            json!("6xx"),
            json!("2x"),
            json!(99),
            json!([]),
            json!(true),
            json!("299-200"),
            json!(200.5),
            json!(""),
        ] {
            assert!(Success::of(&bad).unwrap_err().starts_with("\"success\": "), "{bad}");
        }
    }

    #[test]
    fn a_wait_is_counted_by_the_servers_own_clock_and_capped() {
        let wait = |after: &str, date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            headers.insert(DATE, date.parse().unwrap());
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("7", ""), Some(7));
        assert_eq!(wait("99999999999999999999999", ""), Some(3600));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(30));
        assert_eq!(wait("Wed, 21 Oct 2015 07:27:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        assert_eq!(wait("soon", "Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }
}

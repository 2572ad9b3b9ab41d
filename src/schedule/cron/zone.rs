//! A time zone as stretches of time with one offset each. Zone data comes from the machine's zoneinfo,
//! or, where it has none, from the copy built in.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The rules of one time zone.
#[derive(Clone, PartialEq)]
pub(super) struct Zone {
    rules: TimeZone,
    /// The offset in seconds, for a zone that has only one.
    fixed: Option<i64>,
}

/// A stretch of time in which the wall clock runs evenly: instants `start <= t < end`, in unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// `i64::MIN` for the first one.
    pub(super) start: i64,
    /// `i64::MAX` for the last one.
    pub(super) end: i64,
    /// Seconds the wall clock is ahead of UTC.
    pub(super) offset: i64,
    /// The same in the stretch before.
    pub(super) offset_before: i64,
}

impl Zone {
    /// Looks up `UTC` or an Area/Location name such as `Europe/Paris`; any case.
    pub(super) fn find(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("UTC") {
            return Some(Self { rules: TimeZone::UTC, fixed: Some(0) });
        }
        // Zoneinfo also holds `right/…`, which counts leap seconds, and `posix/…`, the same again.
        let (area, _) = name.split_once('/')?;
        if ["right", "posix"].iter().any(|folder| area.eq_ignore_ascii_case(folder)) {
            return None;
        }
        let rules = TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())?;
        let fixed = rules.to_fixed_offset().ok().map(|offset| i64::from(offset.seconds()));
        Some(Self { rules, fixed })
    }

    /// The stretch that holds the instant `at`.
    pub(super) fn stretch(&self, at: i64) -> Stretch {
        if let Some(offset) = self.fixed {
            return Stretch { start: i64::MIN, end: i64::MAX, offset, offset_before: offset };
        }
        let offset = self.offset(at);
        // `preceding` is exclusive: from the next second it finds a change at `at` itself.
        let start = self.rules.preceding(instant(at + 1)).next().map(|change| change.timestamp().as_second());
        let end = self.rules.following(instant(at)).next().map(|change| change.timestamp().as_second());
        let start = start.unwrap_or(i64::MIN);
        let offset_before = if start == i64::MIN { offset } else { self.offset(start - 1) };
        Stretch { start, end: end.unwrap_or(i64::MAX), offset, offset_before }
    }

    fn offset(&self, at: i64) -> i64 {
        i64::from(self.rules.to_offset(instant(at)).seconds())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rules.iana_name().unwrap_or("UTC"))
    }
}

/// Callers stay within the years 1969 to 2101, far inside what a timestamp can hold.
fn instant(at: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH)
}

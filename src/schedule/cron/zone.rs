//! A time zone as stretches of time with one offset each.
//!
//! Zone data comes from the machine's zoneinfo, or where it has none from the copy built in. A zone is laid
//! out as a table once, so that finding a stretch is a binary search; asking the zone library each time
//! took most of the time of a daily schedule's next fire time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use chrono::{DateTime, FixedOffset, Offset, Utc};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{FIRST, LAST};

/// The rules of one time zone.
#[derive(Clone)]
pub(in crate::schedule) struct Zone {
    name: Arc<str>,
    /// In order and without a hole, from the beginning to the end of time.
    stretches: Arc<[Stretch]>,
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

/// The zones met so far, by name in lower case: no more than there are, of about 15 KiB each.
static ZONES: LazyLock<Mutex<HashMap<String, Zone>>> = LazyLock::new(Mutex::default);

impl Zone {
    /// Looks up `UTC` or an Area/Location name such as `Europe/Paris`; any case.
    pub(in crate::schedule) fn find(name: &str) -> Option<Self> {
        if !is_name(name) {
            return None;
        }
        let key = name.to_ascii_lowercase();
        // A panic elsewhere cannot leave the map half changed, so a poisoned lock is as good as any.
        let mut zones = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = zones.get(&key) {
            return Some(zone.clone());
        }
        let rules = TimeZone::get(&key).ok().filter(|rules| !rules.is_unknown())?;
        let name = rules.iana_name().unwrap_or(name).into();
        let zone = Self { name, stretches: stretches(&rules) };
        zones.insert(key, zone.clone());
        Some(zone)
    }

    pub(in crate::schedule) fn name(&self) -> &str {
        &self.name
    }

    /// The instant as the zone's clocks show it. Offsets are cut to minutes, as RFC 3339 has them: some had
    /// seconds until 1972.
    pub(in crate::schedule) fn local(&self, at: DateTime<Utc>) -> DateTime<FixedOffset> {
        let offset = self.stretch(at.timestamp()).offset;
        let offset = FixedOffset::east_opt((offset - offset % 60) as i32);
        at.with_timezone(&offset.unwrap_or(Utc.fix())) // no zone is a day away from UTC
    }

    /// The changes of the clock later than `after`, up to and including `until`: the stretches they begin.
    pub(super) fn changes(&self, after: i64, until: i64) -> &[Stretch] {
        let from = self.stretches.partition_point(|stretch| stretch.start <= after);
        let to = self.stretches.partition_point(|stretch| stretch.start <= until);
        self.stretches.get(from..to).unwrap_or_default()
    }

    /// The stretch that holds the instant `at`.
    pub(super) fn stretch(&self, at: i64) -> Stretch {
        self.stretches[self.stretches.partition_point(|stretch| stretch.end <= at)]
    }
}

/// Whether a name has the form of one that workers and PostgreSQL take alike, as `watchbell.is_timezone` says:
/// `UTC`, `Etc/GMT…`, or two or three parts without digits. Zoneinfo also holds `right/…`, which counts leap
/// seconds, and `posix/…`, the same again.
fn is_name(name: &str) -> bool {
    if name.eq_ignore_ascii_case("UTC") {
        return true;
    }
    let of_etc = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("Etc/GMT"));
    let sound = |c: u8| c.is_ascii_alphabetic() || b"_-".contains(&c) || of_etc && (c.is_ascii_digit() || c == b'+');
    let parts: Vec<&str> = name.split('/').collect();
    let area = parts[0].to_ascii_lowercase();
    name.len() <= 64
        && (2..=3).contains(&parts.len())
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(sound))
        && !["right", "posix"].contains(&area.as_str())
}

/// Every stretch that reaches into the years 1970 to 2199.
fn stretches(rules: &TimeZone) -> Arc<[Stretch]> {
    let offset = |at: i64| i64::from(rules.to_offset(instant(at)).seconds());
    let first = offset(FIRST);
    let mut stretches = vec![Stretch { start: i64::MIN, end: i64::MAX, offset: first, offset_before: first }];
    for change in rules.following(instant(FIRST)) {
        let (start, new) = (change.timestamp().as_second(), i64::from(change.offset().seconds()));
        if start > LAST {
            break;
        }
        // Many changes only rename the time or move it between standard and summer.
        if let Some(last) = stretches.last_mut().filter(|last| last.offset != new) {
            last.end = start;
            let offset_before = last.offset;
            stretches.push(Stretch { start, end: i64::MAX, offset: new, offset_before });
        }
    }
    stretches.into()
}

fn instant(at: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

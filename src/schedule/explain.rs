//! What an expression means, and when it fires: for people, before there is a row.

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeZone, Utc};

use super::cron::{Zone, zone_of};
use super::{CronError, Dst, Schedule, Spec};

/// The most fire times that one question may ask for.
pub const FIRES_MAX: usize = 1_000;

/// An expression in words, its next fire times, and what is easily overlooked about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The expression as it was written, without blanks around it.
    pub spec: String,
    /// The name of its time zone: that of its `TZ=`, or the one that was given.
    pub timezone: String,
    /// The expression in words: `at 09:00, Monday through Friday`.
    pub words: String,
    /// Its next fire times as clocks in its zone show them.
    pub next: Vec<DateTime<FixedOffset>>,
    /// One sentence each: see [`Cron::remarks`](super::Cron::remarks).
    pub remarks: Vec<String>,
}

/// Explains an expression of the column `cron`, with its first `n` fire times later than `from`.
///
/// `@every 5m` counts from `from`, as a schedule that is written then. There are fewer than `n` if the years
/// it names end; at most [`FIRES_MAX`] are given.
///
/// ```
/// use watchbell::schedule::{Dst, explain};
///
/// let from = "2026-03-27T00:00:00Z".parse().unwrap();
/// let explanation = explain::explain("30 2 * * *", "Europe/Paris", Dst::Once, from, 3)?;
/// assert_eq!(explanation.words, "at 02:30 every day");
/// assert_eq!(explanation.next[2].to_rfc3339(), "2026-03-29T03:00:00+02:00"); // there was no 02:30
/// assert!(explanation.remarks[0].starts_with("on 2026-03-29 clocks in Europe/Paris go from 02:00 to 03:00"));
/// # Ok::<(), watchbell::schedule::CronError>(())
/// ```
///
/// # Errors
/// One sentence: what is wrong with the expression or its zone, or that no date ever matches it.
pub fn explain(text: &str, timezone: &str, dst: Dst, from: DateTime<Utc>, n: usize) -> Result<Explanation, CronError> {
    let (spec, zone) = read(text, timezone, dst)?;
    let (words, remarks) = match &spec {
        Spec::Cron(cron) => (cron.describe(), cron.remarks(from)),
        _ => (format!("{spec}, counted from when the schedule is written"), Vec::new()),
    };
    Ok(Explanation {
        spec: text.trim_ascii().to_owned(),
        timezone: zone.name().to_owned(),
        words,
        next: fire_times(spec, &zone, from, n),
        remarks,
    })
}

/// Only the fire times of [`explain`].
///
/// # Errors
/// As [`explain`].
pub fn next(
    text: &str,
    timezone: &str,
    dst: Dst,
    from: DateTime<Utc>,
    n: usize,
) -> Result<Vec<DateTime<FixedOffset>>, CronError> {
    let (spec, zone) = read(text, timezone, dst)?;
    Ok(fire_times(spec, &zone, from, n))
}

/// The name of the zone whose clocks an expression means: that of its `TZ=`, else `timezone`.
pub fn timezone<'a>(text: &'a str, timezone: &'a str) -> &'a str {
    zone_of(text, timezone)
}

/// A fire time to the second with its offset, `2026-03-29T03:00:00+02:00`; in UTC the offset is `Z`.
pub fn rfc3339(at: &DateTime<FixedOffset>, timezone: &str) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, timezone.eq_ignore_ascii_case("UTC"))
}

/// Reads an expression that fires at some time.
fn read(text: &str, timezone: &str, dst: Dst) -> Result<(Spec, Zone), CronError> {
    let spec = Spec::cron(text, timezone, dst)?;
    if matches!(&spec, Spec::Cron(cron) if cron.never_fires()) {
        return Err(CronError::Never(text.trim_ascii().to_owned()));
    }
    let zone = zone_of(text, timezone);
    let zone = Zone::find(zone).ok_or_else(|| CronError::Timezone(zone.to_owned()))?;
    Ok((spec, zone))
}

fn fire_times(spec: Spec, zone: &Zone, from: DateTime<Utc>, n: usize) -> Vec<DateTime<FixedOffset>> {
    // Whole seconds, as everything that fires by an expression.
    let from = Utc.timestamp_opt(from.timestamp(), 0).single().unwrap_or(from);
    let slots = Schedule::new(0, spec, from).upcoming(from, n.min(FIRES_MAX));
    slots.into_iter().map(|at| zone.local(at)).collect()
}

//! One field of a cron expression: its name, its range, and the numbers its text stands for.

use super::set::Set;
use crate::duration::shown;

/// The seven fields, in the order they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
}

/// The numbers of one term: `*`, `n`, `n-m` or `n/step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u32,
    /// The highest it may reach; with a step it need not.
    pub(super) last: u32,
    /// 1 if there is none.
    pub(super) step: u32,
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Field {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
            Self::Year => "year",
        }
    }

    /// The smallest and the largest number that may be written. A weekday 7 is Sunday, like 0.
    pub(super) fn range(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
            Self::Year => (1970, 2199),
        }
    }

    /// The number of different values, and the largest step.
    pub(super) fn size(self) -> u32 {
        let (low, high) = self.range();
        if self == Self::DayOfWeek { 7 } else { high - low + 1 }
    }

    /// The names for its numbers from the smallest on.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            _ => &[],
        }
    }

    /// "0-23", or "1-12 or JAN-DEC".
    fn allowed(self) -> String {
        let (low, high) = self.range();
        match self.names() {
            [first, .., last] => format!("{low}-{high} or {first}-{last}"),
            _ => format!("{low}-{high}"),
        }
    }

    /// A sentence about a piece of this field's text.
    pub(super) fn problem(self, text: &str, what: &str) -> String {
        format!("{} \"{}\" {what}", self.name(), shown(text))
    }

    /// One number or name, within the field's range.
    pub(super) fn number(self, text: &str) -> Result<u32, String> {
        let (low, high) = self.range();
        if let Some(k) = self.names().iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(low + k as u32);
        }
        let n = digits(text).ok_or_else(|| self.problem(text, &format!("is not one of {}", self.allowed())))?;
        if n < low || n > high {
            return Err(self.problem(text, &format!("is out of range {low}-{high}")));
        }
        Ok(n)
    }

    /// A whole field: terms with commas between them. Nothing beyond the field's range is ever built.
    pub(super) fn numbers(self, text: &str) -> Result<Set, String> {
        let mut set = Set::empty(self.range().0);
        for term in text.split(',') {
            self.term(term, &mut set)?;
        }
        Ok(set)
    }

    /// `*`, `n`, `n-m`, each perhaps with `/step`.
    pub(super) fn term(self, term: &str, set: &mut Set) -> Result<(), String> {
        let Span { first, last, step, .. } = self.span(term)?;
        for n in (first..=last).step_by(step as usize) {
            set.insert(if self == Self::DayOfWeek { n % 7 } else { n });
        }
        Ok(())
    }

    /// One such term, unexpanded. Of weekdays 7 stays 7, so that `5-7` runs forwards.
    pub(super) fn span(self, term: &str) -> Result<Span, String> {
        if term.is_empty() {
            return Err(format!("{} has an empty item (allowed {})", self.name(), self.allowed()));
        }
        let (range, step) = match term.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (term, None),
        };
        if range.is_empty() {
            return Err(self.problem(term, &format!("has no start before its step (allowed {})", self.allowed())));
        }
        // `*` and `n/step` end at Saturday: 7 is only another way to write Sunday.
        let (low, high) = self.range();
        let end = if self == Self::DayOfWeek { 6 } else { high };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (low, end),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None => {
                let n = self.number(range)?;
                (n, if step.is_some() { end.max(n) } else { n })
            }
        };
        if first > last {
            return Err(self.problem(range, &format!("runs backwards (allowed {})", self.allowed())));
        }
        Ok(Span { first, last, step: step.unwrap_or(1) })
    }

    fn step(self, text: &str) -> Result<u32, String> {
        let size = self.size();
        match digits(text) {
            Some(step) if (1..=size).contains(&step) => Ok(step),
            Some(0) => Err(format!("{} step \"{}\" is out of range 1-{size}", self.name(), shown(text))),
            Some(_) => Err(format!(
                "{} step \"{}\" is out of range 1-{size} (for longer periods use fixed_rate)",
                self.name(),
                shown(text)
            )),
            None => Err(format!("{} step \"{}\" is not a number 1-{size}", self.name(), shown(text))),
        }
    }
}

/// Decimal digits only: no sign, no space. What does not fit is larger than any range.
fn digits(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u32::MAX))
}

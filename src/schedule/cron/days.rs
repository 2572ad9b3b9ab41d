//! The dates a cron expression names: its day, weekday, month and year fields together.
//!
//! Whatever the day fields say (`L`, `15W`, `FRI#3`, either-or), which days of a month match depends on
//! two things only: how long the month is and on which weekday it begins. So a rule is 28 bit masks, and
//! any combination of terms costs the same. The alternative, one schedule per term and month length,
//! grows with the product of the terms: a text of 256 bytes could ask for 38,000 of them.

use chrono::{Datelike, NaiveDate};

use super::field::Field;
use super::set::Set;

/// The last year there is; nothing fires after it.
const YEAR_MAX: u32 = 2199;

/// Bit d is day d of the month.
type Mask = u32;

/// The days 1 to 31.
const EVERY_DAY: Mask = !1;
/// Monday to Friday, bit 0 being Sunday.
const WORKDAYS: u32 = 0b011_1110;

/// Which dates match.
#[derive(Debug, Clone)]
pub(super) struct Days {
    months: Set,
    years: Set,
    masks: [Mask; 28],
}

/// What the days of a month depend on.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// 28 to 31.
    length: u32,
    /// The weekday of day 1; 0 is Sunday.
    first: u32,
}

/// How the two day fields are combined when both are restricted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Both {
    /// Either matches: crontab's rule.
    Either,
    /// Both match: a weekday field that begins with `+`.
    And,
}

#[derive(Debug, Clone, Copy)]
enum Term {
    /// These days of the month.
    Dates(Mask),
    /// `L`: the last day.
    Last,
    /// `LW`: the last day that is Monday to Friday.
    LastWorkday,
    /// `nW`: the day of Monday to Friday nearest to day n, within the month.
    NearestWorkday(u32),
    /// These weekdays; bit 0 is Sunday.
    Weekdays(u32),
    /// `w#k`: the k-th such weekday.
    Nth(u32, u32),
    /// `wL`: the last such weekday.
    LastOf(u32),
}

impl Days {
    /// Reads the day, month, weekday and year fields.
    ///
    /// # Errors
    /// One sentence naming the field, the value and the range.
    pub(super) fn parse(dom: &str, month: &str, dow: &str, year: &str) -> Result<Self, String> {
        let dates = date_terms(dom)?;
        let (dow, both) = match dow.strip_prefix('+') {
            Some(dow) => (dow, Both::And),
            None => (dow, Both::Either),
        };
        let months = Field::Month.numbers(month)?;
        let weekdays = weekday_terms(dow)?;
        let years = Field::Year.numbers(year)?;
        let masks = std::array::from_fn(|at| {
            let shape = Shape::at(at);
            let any = |terms: &[Term]| terms.iter().fold(0, |mask, term| mask | term.mask(shape));
            let (dates, weekdays) = (dates.as_deref().map(any), weekdays.as_deref().map(any));
            shape.every_day()
                & match (dates, weekdays) {
                    (Some(dates), Some(weekdays)) if both == Both::Either => dates | weekdays,
                    (dates, weekdays) => dates.unwrap_or(EVERY_DAY) & weekdays.unwrap_or(EVERY_DAY),
                }
        });
        Ok(Self { months, years, masks })
    }

    pub(super) fn months(&self) -> &Set {
        &self.months
    }

    /// The days that match in some month; they contain those that match in any one.
    pub(super) fn superset(&self) -> impl Iterator<Item = u32> {
        let mask = self.masks.iter().fold(0, |all, mask| all | mask);
        (1..=31).filter(move |day| mask >> day & 1 == 1)
    }

    /// Whether a date in an allowed month and year matches.
    pub(super) fn contains(&self, date: NaiveDate) -> bool {
        self.mask(date.year(), date.month()) >> date.day() & 1 == 1
    }

    /// The first matching date at or after `date`, to the end of [`YEAR_MAX`].
    pub(super) fn on_or_after(&self, date: NaiveDate) -> Option<NaiveDate> {
        let mut mask = self.mask(date.year(), date.month()) & (!0 << date.day());
        let (mut year, mut month) = (date.year(), date.month());
        while mask == 0 {
            let year_is_over = month == 12 || !self.has_year(year);
            (year, month) = if year_is_over { (year + 1, 1) } else { (year, month + 1) };
            if year > YEAR_MAX as i32 {
                return None;
            }
            mask = self.mask(year, month);
        }
        NaiveDate::from_ymd_opt(year, month, mask.trailing_zeros())
    }

    /// How many matching dates there are from `from` on and before `to`.
    pub(super) fn count(&self, from: NaiveDate, to: NaiveDate) -> u64 {
        if from >= to {
            return 0;
        }
        let (mut year, mut month) = (from.year(), from.month());
        let mut skipped: Mask = !(!0 << from.day());
        let mut count = 0;
        while (year, month) < (to.year(), to.month()) {
            count += u64::from((self.mask(year, month) & !skipped).count_ones());
            skipped = 0;
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        count + u64::from((self.mask(year, month) & !skipped & !(!0 << to.day())).count_ones())
    }

    fn has_year(&self, year: i32) -> bool {
        u32::try_from(year).is_ok_and(|year| self.years.contains(year))
    }

    fn mask(&self, year: i32, month: u32) -> Mask {
        if !self.months.contains(month) || !self.has_year(year) {
            return 0;
        }
        let Some(first) = NaiveDate::from_ymd_opt(year, month, 1) else { return 0 };
        let shape =
            Shape { length: u32::from(first.num_days_in_month()), first: first.weekday().num_days_from_sunday() };
        self.masks[shape.index()]
    }
}

impl Shape {
    fn at(index: usize) -> Self {
        Self { length: 28 + index as u32 / 7, first: index as u32 % 7 }
    }

    fn index(self) -> usize {
        ((self.length - 28) * 7 + self.first) as usize
    }

    fn every_day(self) -> Mask {
        EVERY_DAY & (!0 >> (31 - self.length))
    }

    fn weekday(self, day: u32) -> u32 {
        (self.first + day - 1) % 7
    }

    /// The days that fall on one of these weekdays.
    fn on(self, weekdays: u32) -> Mask {
        (1..=self.length).filter(|&day| weekdays >> self.weekday(day) & 1 == 1).fold(0, |mask, day| mask | 1 << day)
    }

    fn is_workday(self, day: u32) -> bool {
        WORKDAYS >> self.weekday(day) & 1 == 1
    }
}

impl Term {
    fn mask(self, shape: Shape) -> Mask {
        let only = |day: Option<u32>| day.map_or(0, |day| 1 << day);
        match self {
            Self::Dates(mask) => mask,
            Self::Last => only(Some(shape.length)),
            Self::LastWorkday => only((1..=shape.length).rev().find(|&day| shape.is_workday(day))),
            Self::NearestWorkday(day) => {
                // At most two days away: a first that is a Saturday is kept on Monday the third.
                let near = [day, day.wrapping_sub(1), day + 1, day.wrapping_sub(2), day + 2];
                let within = |d: &u32| (1..=shape.length).contains(d) && shape.is_workday(*d);
                only(near.into_iter().find(within).filter(|_| day <= shape.length))
            }
            Self::Weekdays(weekdays) => shape.on(weekdays),
            Self::Nth(weekday, k) => shape.on(1 << weekday) & (0b1111_1110 << (7 * (k - 1))),
            Self::LastOf(weekday) => only(shape.on(1 << weekday).checked_ilog2()),
        }
    }
}

/// Whether a day field leaves its day open: `*`, `?` or `*/1`.
pub(super) fn is_open(text: &str) -> bool {
    matches!(text, "*" | "?" | "*/1")
}

/// The day-of-month field; `None` if it is open.
fn date_terms(text: &str) -> Result<Option<Vec<Term>>, String> {
    let term = |text: &str| match text.to_ascii_uppercase().as_str() {
        "L" => Ok(Term::Last),
        "LW" => Ok(Term::LastWorkday),
        upper if upper.ends_with('W') => Field::DayOfMonth.number(&text[..text.len() - 1]).map(Term::NearestWorkday),
        _ => {
            let mut days = Set::empty(0);
            Field::DayOfMonth.term(text, &mut days)?;
            Ok(Term::Dates(days.low_bits()))
        }
    };
    if is_open(text) { Ok(None) } else { text.split(',').map(term).collect::<Result<_, _>>().map(Some) }
}

/// The day-of-week field without its `+`; `None` if it is open.
fn weekday_terms(text: &str) -> Result<Option<Vec<Term>>, String> {
    const FIELD: Field = Field::DayOfWeek;
    let term = |text: &str| {
        let weekday = |text: &str| FIELD.number(text).map(|n| n % 7);
        if let Some((day, k)) = text.split_once('#') {
            return match k {
                "L" | "l" => weekday(day).map(Term::LastOf),
                "1" | "2" | "3" | "4" | "5" => Ok(Term::Nth(weekday(day)?, u32::from(k.as_bytes()[0] - b'0'))),
                _ => Err(FIELD.problem(text, "has no week 1-5 or L after \"#\"")),
            };
        }
        match text.strip_suffix(['L', 'l']) {
            Some("") => Err(FIELD.problem(text, "names no weekday: write 6L for the last Saturday")),
            Some(day) => weekday(day).map(Term::LastOf),
            None => {
                let mut days = Set::empty(0);
                FIELD.term(text, &mut days)?;
                Ok(Term::Weekdays(days.low_bits()))
            }
        }
    };
    if is_open(text) { Ok(None) } else { text.split(',').map(term).collect::<Result<_, _>>().map(Some) }
}

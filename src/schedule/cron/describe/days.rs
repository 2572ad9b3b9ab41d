//! The days in words: `on the last day of the month`, `, Monday through Friday`.

use super::Form;
use super::part::{Part, join, ordinal, reached};
use crate::schedule::cron::days::is_open;
use crate::schedule::cron::field::{Field, Span};
use crate::schedule::cron::set::Set;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const WEEKS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

/// The three day fields, as what follows a time of day.
pub(super) fn words(dom: &str, months: &Part, dow: &str, form: Form) -> Result<String, String> {
    let (dow, both_needed) = dow.strip_prefix('+').map_or((dow, false), |dow| (dow, true));
    let months = (!months.is_every()).then(|| months.names(month, "and"));
    let of = format!(" of {}", months.as_deref().unwrap_or("the month"));
    let within = months.as_ref().map_or(String::new(), |months| format!(" in {months}"));
    let dates = if is_open(dom) { None } else { Some(format!(" on {}{of}", dates(dom)?)) };
    let weekdays = if is_open(dow) { None } else { Some(Weekdays::read(dow)?) };
    Ok(match (dates, weekdays) {
        (None, None) if form == Form::Listed => format!(" every day{within}"),
        (None, None) => within,
        (Some(dates), None) => dates,
        (None, Some(weekdays)) => weekdays.alone(&of, &within),
        (Some(dates), Some(weekdays)) if both_needed => format!("{dates} if it is {}", weekdays.condition(&of)),
        (Some(dates), Some(weekdays)) => format!("{dates} or on {}", weekdays.list(&of, &within)),
    })
}

fn month(n: u32) -> String {
    MONTHS[(n as usize + 11) % 12].to_owned()
}

/// Its name; 0 and 7 are Sunday.
pub(in crate::schedule::cron) fn weekday(n: u32) -> String {
    WEEKDAYS[n as usize % 7].to_owned()
}

/// The terms of the day-of-month field.
fn dates(text: &str) -> Result<String, String> {
    let the = |day: u32| format!("the {}", ordinal(day));
    let term = |term: &str| match term.to_ascii_uppercase().as_str() {
        "L" => Ok("the last day".to_owned()),
        "LW" => Ok("the last weekday".to_owned()),
        upper if upper.ends_with('W') => {
            let day = Field::DayOfMonth.number(&term[..term.len() - 1])?;
            Ok(format!("the weekday nearest {}", the(day)))
        }
        _ => Field::DayOfMonth.span(term).map(|span| match (span.first, reached(span)) {
            (first, last) if first == last => the(first),
            (first, last) if span.step > 1 => {
                format!("every {} day from {} through {}", ordinal(span.step), the(first), the(last))
            }
            (first, last) => format!("{} through {}", the(first), the(last)),
        }),
    };
    Ok(join(&text.split(',').map(term).collect::<Result<Vec<_>, _>>()?, "and"))
}

/// The terms of the day-of-week field.
struct Weekdays {
    /// Those that mean every such day; 0 is Sunday.
    plain: Set,
    /// A single `n-m` and nothing else.
    range: Option<Span>,
    /// `the third Friday`, `the last Monday`.
    placed: Vec<String>,
}

impl Weekdays {
    fn read(text: &str) -> Result<Self, String> {
        const FIELD: Field = Field::DayOfWeek;
        let mut weekdays = Self { plain: Set::empty(0), range: None, placed: Vec::new() };
        for term in text.split(',') {
            if let Some((day, week)) = term.split_once('#') {
                let week = week.parse().ok().and_then(|k: usize| WEEKS.get(k.checked_sub(1)?)).unwrap_or(&"last");
                weekdays.placed.push(format!("the {week} {}", weekday(FIELD.number(day)?)));
            } else if let Some(day) = term.strip_suffix(['L', 'l']) {
                weekdays.placed.push(format!("the last {}", weekday(FIELD.number(day)?)));
            } else {
                let span = FIELD.span(term)?;
                weekdays.range = Some(span).filter(|span| span.step == 1 && span.last >= span.first + 2);
                FIELD.term(term, &mut weekdays.plain)?;
            }
        }
        weekdays.range = weekdays.range.filter(|_| !text.contains(','));
        Ok(weekdays)
    }

    /// The weekdays, when no date stands beside them.
    fn alone(&self, of: &str, within: &str) -> String {
        match self.range {
            Some(_) if self.plain.len() < 7 => format!(", {}", self.list(of, within)),
            _ => format!(" on {}", self.list(of, within)),
        }
    }

    /// `Monday and the third Friday of the month`.
    fn list(&self, of: &str, within: &str) -> String {
        let end = if self.placed.is_empty() { within } else { of };
        format!("{}{end}", join(&self.each(weekday), "and"))
    }

    /// What a date is to be besides: `a Monday or the third Friday of the month`.
    fn condition(&self, of: &str) -> String {
        let end = if self.placed.is_empty() { "" } else { of };
        format!("{}{end}", join(&self.each(|day| format!("a {}", weekday(day))), "or"))
    }

    fn each(&self, single: impl Fn(u32) -> String) -> Vec<String> {
        let mut words = match self.range {
            _ if self.plain.len() == 7 => vec!["any day of the week".to_owned()],
            Some(span) => vec![format!("{} through {}", weekday(span.first), weekday(span.last))],
            None => self.plain.iter().map(single).collect(),
        };
        words.extend(self.placed.iter().cloned());
        words
    }
}

//! An expression in words: `at 09:00, Monday through Friday`.
//!
//! Two expressions in the same words fire at the same times: nothing is rounded, a step that does not come
//! out even is given with its last number.

mod days;
mod part;
mod times;

pub(super) use self::days::weekday;
use self::part::Part;
use super::Cron;
use super::field::Field;
use super::read::fields;

impl Cron {
    /// What the expression says, in English, without its time zone.
    ///
    /// ```
    /// use watchbell::schedule::{Cron, Dst};
    ///
    /// let words = |text| Cron::parse(text, "UTC", Dst::Once).map(|cron| cron.describe());
    /// assert_eq!(words("0 9 * * MON-FRI")?, "at 09:00, Monday through Friday");
    /// assert_eq!(words("0 0 L * *")?, "at 00:00 on the last day of the month");
    /// # Ok::<(), watchbell::schedule::CronError>(())
    /// ```
    pub fn describe(&self) -> String {
        // It was read once, so it can be read again.
        describe(&self.text).unwrap_or_else(|_| self.text.to_string())
    }
}

fn describe(text: &str) -> Result<String, String> {
    let [second, minute, hour, dom, month, dow, year] = fields(text)?;
    let (times, form) = times::words(
        &Part::read(Field::Second, second)?,
        &Part::read(Field::Minute, minute)?,
        &Part::read(Field::Hour, hour)?,
    );
    let days = days::words(dom, &Part::read(Field::Month, month)?, dow, form)?;
    Ok(times + &days + &years(&Part::read(Field::Year, year)?))
}

/// `, in 2027 and 2030 through 2035`; nothing for every year.
fn years(years: &Part) -> String {
    if years.is_every() {
        return String::new();
    }
    match years.spans[..] {
        [span] if span.step > 1 => {
            let (first, last) = (span.first, part::reached(span));
            format!(", every {} year from {first} through {last}", part::ordinal(span.step))
        }
        [span] if span.first < span.last => format!(", from {} through {}", span.first, span.last),
        _ => format!(", in {}", years.list(|n| n.to_string(), "and")),
    }
}

/// Whether the time of day is a list of single times, or comes again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `at 09:00 and 17:00`.
    Listed,
    /// `every 15 minutes`.
    Repeated,
}

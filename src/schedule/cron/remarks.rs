//! What is easily overlooked about an expression: sentences for the person who wrote it.

use chrono::{DateTime, NaiveDateTime, Utc};

use super::days::is_open;
use super::describe::weekday;
use super::field::{Field, Span};
use super::read::fields;
use super::zone::Stretch;
use super::{Cron, DAY, Rule, wall_time};

/// How far ahead clock changes are looked for.
const YEAR: i64 = 366 * DAY;

impl Cron {
    /// What a reader may not expect of it, one sentence each; of clock changes those in the year after `from`.
    ///
    /// Weekdays as numbers (Quartz counts from another day), both day fields set, steps that start again
    /// unevenly, and fire times that a clock change moves, drops or repeats.
    pub fn remarks(&self, from: DateTime<Utc>) -> Vec<String> {
        let mut remarks = Vec::new();
        // It was read once, so it can be read again.
        if let Ok([second, minute, hour, dom, month, dow, year]) = fields(&self.text) {
            remarks.extend(both_days(dom, dow));
            remarks.extend(numbered_weekdays(dow));
            let parts = [
                (Field::Second, second),
                (Field::Minute, minute),
                (Field::Hour, hour),
                (Field::DayOfMonth, dom),
                (Field::Month, month),
                (Field::DayOfWeek, dow.trim_start_matches('+')),
                (Field::Year, year),
            ];
            remarks.extend(parts.into_iter().filter_map(|(field, text)| uneven_step(field, text)));
        }
        if self.never_fires() {
            remarks.push("it never fires: no date matches it".to_owned());
            return remarks;
        }
        let from = from.timestamp();
        remarks.extend(self.zone.changes(from, from.saturating_add(YEAR)).iter().filter_map(|&new| self.change(new)));
        remarks
    }

    /// What the clock change that begins this stretch does to the fire times.
    fn change(&self, new: Stretch) -> Option<String> {
        let (before, after) = (new.start + new.offset_before, new.start + new.offset);
        let (low, high) = (before.min(after), before.max(after));
        // What fires all day long follows real time, as everyone expects.
        if self.rule == Rule::Literal && self.times.hours.len() == 24 {
            return None;
        }
        let count = self.count_wall(low, high);
        let first = self.wall_from(low).filter(|_| count > 0).map(wall_time)?;
        let (low, high) = (wall_time(before), wall_time(after));
        let which = match count {
            1 => format!("{} is", clock(first)),
            _ => format!("{} and {} more are", clock(first), count - 1),
        };
        let what = match (before < after, self.rule) {
            (true, Rule::Once) => format!("it fires once at {}, when they do", clock(high)),
            (true, Rule::Literal) => "it does not fire then".to_owned(),
            (false, Rule::Once) => "it fires the first time only".to_owned(),
            (false, Rule::Literal) => "it fires both times".to_owned(),
        };
        let (lost, zone) = (if before < after { "left out" } else { "shown twice" }, self.timezone());
        Some(format!(
            "on {} clocks in {zone} go from {} to {}, and {which} {lost}: {what}",
            low.format("%Y-%m-%d"),
            clock(low),
            // a zone that crossed the date line skipped a day
            if high.date() == low.date() { clock(high) } else { high.format("%Y-%m-%d %H:%M").to_string() },
        ))
    }
}

fn clock(wall: NaiveDateTime) -> String {
    let format = if wall.and_utc().timestamp() % 60 == 0 { "%H:%M" } else { "%H:%M:%S" };
    wall.format(format).to_string()
}

/// Crontab's rule, which surprises at each first meeting.
fn both_days(dom: &str, dow: &str) -> Option<String> {
    if is_open(dom) || is_open(dow) || dow.starts_with('+') {
        return None;
    }
    let star = if dom.starts_with('*') || dow.starts_with('*') {
        " (some crons take a day field that begins with * for unrestricted, and need both)"
    } else {
        ""
    };
    Some(format!("both day fields are set, so either one matching is enough; write +{dow} if both must{star}"))
}

/// Quartz and those after it count Sunday as 1, crontab counts Monday as 1.
fn numbered_weekdays(dow: &str) -> Option<String> {
    let dow = dow.strip_prefix('+').unwrap_or(dow);
    // the number of a weekday, not that of a week or a step
    let days = dow.split(',').flat_map(|term| term.split(['#', '/']).next().unwrap_or_default().split('-'));
    let mut numbers = days.filter_map(|day| day.trim_end_matches(['L', 'l']).parse::<u32>().ok());
    let n = numbers.find(|n| (1..=7).contains(n))?;
    let (here, there) = (weekday(n), weekday(n + 6));
    let name = here[..3].to_uppercase();
    Some(format!(
        "weekday {n} is {here} here, as in crontab, and {there} in Quartz; a name such as {name} is read alike"
    ))
}

/// A step that does not divide its field: the last one before the field begins anew is shorter.
fn uneven_step(field: Field, text: &str) -> Option<String> {
    let low = field.range().0;
    // `5-50/7` and `30/7` say where they begin or end, a list is not meant evenly
    let span = field.span(text).ok()?;
    let Span { first, last, step, .. } = span;
    let last = last - (last - first) % step;
    if step == 1 || first != low || span.last + 1 < low + field.size() || last == first {
        return None;
    }
    let name = field.name();
    let gap = field.size() - (last - low);
    let advice = "for an even period use fixed_rate or @every";
    match field {
        Field::DayOfMonth => Some(format!(
            "{name} \"{text}\" starts again on the 1st of each month, whatever day was the last; {advice}"
        )),
        Field::Year => None,
        _ if gap == step => None,
        _ => Some(format!(
            "{name} \"{text}\" starts again at {low}: from {last} it is {gap} to the next, not {step}; {advice}"
        )),
    }
}

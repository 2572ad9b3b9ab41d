//! The time of day in words: `at 09:00 and 17:00`, `every 15 minutes from 09:00 through 17:59`.

use super::Form;
use super::part::{Part, counted, join, ordinal, reached};

/// Up to so many times are listed one by one.
const LISTED_MAX: usize = 6;

pub(super) fn words(seconds: &Part, minutes: &Part, hours: &Part) -> (String, Form) {
    let Some(second) = seconds.single() else {
        return (of_seconds(seconds, minutes, hours), Form::Repeated);
    };
    if let Some(times) = clock_times(second, minutes, hours) {
        return (format!("at {}", join(&times, "and")), Form::Listed);
    }
    let words = match minutes.single() {
        Some(minute) => of_hours(second, minute, hours),
        None => of_minutes(second, minutes, hours),
    };
    (words, Form::Repeated)
}

/// `09:00`, and `09:00:30` where the second matters.
fn clock(hour: u32, minute: u32, second: u32) -> String {
    if second == 0 { format!("{hour:02}:{minute:02}") } else { format!("{hour:02}:{minute:02}:{second:02}") }
}

/// All times of the day, if they were written as lists and are few.
fn clock_times(second: u32, minutes: &Part, hours: &Part) -> Option<Vec<String>> {
    let (minutes, hours) = (minutes.listed()?, hours.listed()?);
    let all = || hours.iter().flat_map(|&hour| minutes.iter().map(move |&minute| clock(hour, minute, second)));
    (minutes.len() * hours.len() <= LISTED_MAX).then(|| all().collect())
}

/// One time in each of several hours.
fn of_hours(second: u32, minute: u32, hours: &Part) -> String {
    if hours.is_every() {
        return match (minute, second) {
            (0, 0) => "every hour".to_owned(),
            (_, 0) => format!("at {} past every hour", counted(minute, "minute")),
            (0, _) => format!("at {} past every hour", counted(second, "second")),
            _ => format!("at {} and {} past every hour", counted(minute, "minute"), counted(second, "second")),
        };
    }
    let at = |hour| clock(hour, minute, second);
    let mut singles = Vec::new();
    let mut phrases = Vec::new();
    for &span in &hours.spans {
        let (first, last) = (span.first, reached(span));
        if first == last {
            singles.push(at(first));
        } else if hours.is_even(span) && (minute, second) == (0, 0) {
            phrases.push(format!("every {} hours", span.step));
        } else if span.step > 1 {
            phrases.push(format!("every {} hours from {} through {}", span.step, at(first), at(last)));
        } else {
            phrases.push(format!("every hour from {} through {}", at(first), at(last)));
        }
    }
    if !singles.is_empty() {
        phrases.insert(0, format!("at {}", join(&singles, "and")));
    }
    join(&phrases, "and")
}

/// One second of several minutes.
fn of_minutes(second: u32, minutes: &Part, hours: &Part) -> String {
    let within = within(hours);
    let late = if second == 0 { String::new() } else { format!("at second {second} of ") };
    if minutes.is_every() {
        return format!("{late}every minute{within}");
    }
    if let Some(listed) = minutes.listed().filter(|_| second == 0) {
        let listed = join(&listed.iter().map(u32::to_string).collect::<Vec<_>>(), "and");
        let of = match (hours.is_every(), within.strip_prefix(" of ")) {
            (true, _) => " every hour".to_owned(),
            (false, Some(every_second_hour)) => format!(" {every_second_hour}"),
            (false, None) => format!(" the hour{within}"),
        };
        return format!("at {listed} minutes past{of}");
    }
    let each = unit(minutes, "minute");
    match second {
        0 => format!("{each}{within}"),
        _ => format!("at second {second}, {each}{within}"),
    }
}

/// Several seconds.
fn of_seconds(seconds: &Part, minutes: &Part, hours: &Part) -> String {
    let each = unit(seconds, "second");
    if minutes.is_every() {
        let of = if each.starts_with("at") { " of every minute" } else { "" };
        return format!("{each}{of}{}", within(hours));
    }
    if let Some(times) = clock_times(0, minutes, hours) {
        let s = if times.len() == 1 { "" } else { "s" };
        return format!("{each} of the minute{s} {}", join(&times, "and"));
    }
    let minutes = match (minutes.stepped(), minutes.single()) {
        (Some(span), _) if minutes.is_even(span) => format!("every {} minute", ordinal(span.step)),
        (_, Some(minute)) => format!("minute {minute}"),
        _ => format!("minutes {}", minutes.list(|n| n.to_string(), "and")),
    };
    format!("{each} of {minutes}{}", within(hours))
}

/// `every 5 minutes`, `every minute from minute 10 through 20`, `at minutes 0, 7 and 30 through 40`.
fn unit(part: &Part, unit: &str) -> String {
    if part.is_every() {
        return format!("every {unit}");
    }
    match (part.stepped(), &part.spans[..]) {
        (Some(span), _) if part.is_even(span) => format!("every {} {unit}s", span.step),
        (Some(span), _) => {
            format!("every {} {unit}s from {unit} {} through {}", span.step, span.first, reached(span))
        }
        (None, &[span]) if span.first < span.last => {
            format!("every {unit} from {unit} {} through {}", span.first, reached(span))
        }
        _ => format!("at {unit}s {}", part.list(|n| n.to_string(), "and")),
    }
}

/// In which hours something comes again and again: ` from 09:00 through 17:59`, ` of every 2nd hour`.
fn within(hours: &Part) -> String {
    if hours.is_every() {
        return String::new();
    }
    if let Some(span) = hours.stepped() {
        let every = format!(" of every {} hour", ordinal(span.step));
        let bounds = format!(" from {:02}:00 through {:02}:59", span.first, reached(span));
        return if hours.is_even(span) { every } else { every + &bounds };
    }
    let runs = hours.runs();
    if runs.len() <= 3 {
        let bounds = |(first, last): &(u32, u32)| format!("from {first:02}:00 through {last:02}:59");
        return format!(" {}", join(&runs.iter().map(bounds).collect::<Vec<_>>(), "and"));
    }
    format!(" in the hours {}", hours.list(|n| n.to_string(), "and"))
}

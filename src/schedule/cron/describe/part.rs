//! One field as it is put into words: its terms, and the numbers they come to.

use crate::schedule::cron::field::{Field, Span};
use crate::schedule::cron::set::Set;

/// A field of plain terms.
#[derive(Debug)]
pub(super) struct Part {
    field: Field,
    pub(super) spans: Vec<Span>,
    set: Set,
}

impl Part {
    pub(super) fn read(field: Field, text: &str) -> Result<Self, String> {
        let spans = text.split(',').map(|term| field.span(term)).collect::<Result<_, _>>()?;
        Ok(Self { field, spans, set: field.numbers(text)? })
    }

    /// Whether it leaves nothing out, however it says so.
    pub(super) fn is_every(&self) -> bool {
        self.set.len() == self.field.size()
    }

    /// Its only number.
    pub(super) fn single(&self) -> Option<u32> {
        self.set.iter().next().filter(|_| self.set.len() == 1)
    }

    /// Its numbers, if they were written one by one.
    pub(super) fn listed(&self) -> Option<Vec<u32>> {
        let plain = self.set.len() == 1 || self.spans.iter().all(|span| span.first == span.last);
        plain.then(|| self.set.iter().collect())
    }

    /// The runs of neighbours in it.
    pub(super) fn runs(&self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for n in self.set.iter() {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == n => *last = n,
                _ => runs.push((n, n)),
            }
        }
        runs
    }

    /// Its only term, if that has a step.
    pub(super) fn stepped(&self) -> Option<Span> {
        let [span] = self.spans[..] else { return None };
        (span.step > 1 && span.first < reached(span)).then_some(span)
    }

    /// Whether this term goes on evenly from one round of the field to the next, as `*/15` minutes do.
    pub(super) fn is_even(&self, span: Span) -> bool {
        (span.first, span.last) == self.field.range() && self.field.size().is_multiple_of(span.step)
    }

    /// `0, 10 through 20 and every 5th from 30 through 55`.
    pub(super) fn list(&self, name: impl Fn(u32) -> String, conjunction: &str) -> String {
        let term = |&span: &Span| match (span.first, reached(span)) {
            (first, last) if first == last => name(first),
            (first, last) if span.step > 1 => {
                format!("every {} from {} through {}", ordinal(span.step), name(first), name(last))
            }
            (first, last) => format!("{} through {}", name(first), name(last)),
        };
        join(&self.spans.iter().map(term).collect::<Vec<_>>(), conjunction)
    }

    /// Its numbers by name; three or more neighbours are `a through b`. For fields of a few names.
    pub(super) fn names(&self, name: impl Fn(u32) -> String, conjunction: &str) -> String {
        let mut words = Vec::new();
        for (first, last) in self.runs() {
            if last - first >= 2 {
                words.push(format!("{} through {}", name(first), name(last)));
            } else {
                words.extend((first..=last).map(&name));
            }
        }
        join(&words, conjunction)
    }
}

/// The last number that a term comes to.
pub(super) fn reached(span: Span) -> u32 {
    span.last - (span.last - span.first) % span.step
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn join(words: &[String], conjunction: &str) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [words @ .., last] => format!("{} {conjunction} {last}", words.join(", ")),
    }
}

/// `1st`, `2nd`, `13th`.
pub(super) fn ordinal(n: u32) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// `1 minute`, `5 minutes`.
pub(super) fn counted(n: u32, unit: &str) -> String {
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

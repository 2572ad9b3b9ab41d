//! The file's entries, each as an option and its values.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::options::{Known, Options};
use crate::handler::did_you_mean;

/// A section whose keys are names of the user's own.
const SECRETS: &str = "secrets";

/// One option that the file sets.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) long: String,
    /// Empty above all sections.
    pub(super) section: String,
    /// With its section, as messages name it.
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) values: Vec<String>,
}

/// The number of a line, and what is wrong there.
type Problem = (usize, String);

/// Reads the text.
///
/// # Errors
/// The first mistake, in one sentence without any value: that may be a password.
pub(super) fn entries(text: &str, options: &Options) -> Result<Vec<Entry>, Problem> {
    let reader = Reader { text, options };
    let document = DeTable::parse(text).map_err(|error| {
        (reader.line(error.span().unwrap_or_default()), error.message().lines().next().unwrap_or_default().to_owned())
    })?;
    let mut found = vec![];
    for (key, value) in document.get_ref() {
        let (name, line) = (key.get_ref().as_ref(), reader.line(key.span()));
        match value.get_ref() {
            DeValue::Table(table) if options.has_section(name) => reader.section(name, table, &mut found)?,
            DeValue::Table(_) => {
                return Err((line, format!("section [{name}] is unknown{}", near(name, options.sections()))));
            }
            _ => found.push(reader.entry("", name, line, value)?),
        }
    }
    Ok(found)
}

struct Reader<'a> {
    text: &'a str,
    options: &'a Options,
}

impl Reader<'_> {
    fn line(&self, span: Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn section(&self, section: &str, table: &DeTable<'_>, found: &mut Vec<Entry>) -> Result<(), Problem> {
        for (key, value) in table {
            let (name, line) = (key.get_ref().as_ref(), self.line(key.span()));
            if section == SECRETS {
                let source = text(value)
                    .ok_or_else(|| (line, format!("{section}.{name} must be a string such as \"env:VARIABLE\"")))?;
                let known = self.options.keys(section).next().and_then(|key| self.options.get(section, key));
                let long = known.map(|known| known.long.clone()).unwrap_or_default();
                let key = format!("{section}.{name}");
                let section = section.to_owned();
                found.push(Entry { long, section, key, line, values: vec![format!("{name}={source}")] });
                continue;
            }
            let entry = self.entry(section, name, line, value)?;
            if found.iter().any(|earlier| earlier.long == entry.long) {
                return Err((line, format!("{} is set twice", entry.key)));
            }
            found.push(entry);
        }
        Ok(())
    }

    fn entry(&self, section: &str, name: &str, line: usize, value: &Spanned<DeValue<'_>>) -> Result<Entry, Problem> {
        let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        let Some(known) = self.options.get(section, name) else {
            let is_elsewhere = |section: &&str| self.options.get(section, name).is_some();
            let hint = match self.options.sections().find(is_elsewhere) {
                Some(other) => format!("; it belongs to section [{other}]"),
                None => near(name, self.options.keys(section)),
            };
            return Err((line, format!("{key} is unknown{hint}")));
        };
        let values = values(known, value)
            .map_err(|wanted| (line, format!("{key} must be {wanted}, not {}", article(value.get_ref().type_str()))))?;
        Ok(Entry { long: known.long.clone(), section: section.to_owned(), key, line, values })
    }
}

/// The values as on the command line; an error says what is wanted.
fn values(known: &Known, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, &'static str> {
    match (value.get_ref(), known) {
        (DeValue::Boolean(value), Known { is_flag: true, .. }) => Ok(vec![value.to_string()]),
        (_, Known { is_flag: true, .. }) => Err("true or false"),
        (DeValue::Array(list), Known { is_list: true, .. }) => {
            list.iter().map(text).collect::<Option<_>>().ok_or("a list of strings")
        }
        (DeValue::Table(pairs), Known { is_list: true, is_named: true, .. }) => {
            let pair = |(name, value): (&Spanned<_>, _)| Some(format!("{}={}", name.get_ref(), text(value)?));
            pairs.iter().map(pair).collect::<Option<_>>().ok_or("a table of strings")
        }
        (_, Known { is_list, .. }) => text(value).map(|text| vec![text]).ok_or(if *is_list {
            "a list of strings"
        } else {
            "a string or a number"
        }),
    }
}

/// A single value as text.
fn text(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(i64::from_str_radix(number.as_str(), number.radix()).ok()?.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.collect();
    let hint = did_you_mean(name, known.iter().copied());
    if hint.is_empty() { format!("; known: {}", known.join(", ")) } else { hint }
}

fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

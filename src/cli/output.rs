//! What goes to standard output: a table for people, or text for programs.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::yaml;
use crate::error::{Error, Result};

/// The form of results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns on a terminal; one line a row with tabs between the columns elsewhere.
    #[default]
    Table,
    /// One JSON document: a list of objects, or one object.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// One YAML document, with the fields of json.
    Yaml,
    /// Only the name or id, one a line.
    Name,
}

/// Where results go, and in which form.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    is_terminal: bool,
    /// Whoever read it has gone away.
    is_closed: AtomicBool,
}

/// One column of a table: its heading, and what it shows of a row.
pub(super) type Column<T> = (&'static str, fn(&T) -> String);

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format, is_terminal: io::stdout().is_terminal(), is_closed: AtomicBool::new(false) }
    }

    /// Whether programs read all fields of it: then one JSON object a line is right for what comes bit by bit.
    pub(super) fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl | Format::Yaml)
    }

    /// Writes a list; `name` is what identifies a row.
    pub(super) fn list<T: Serialize>(&self, rows: &[T], columns: &[Column<T>], name: fn(&T) -> String) -> Result<()> {
        self.write(&match self.format {
            Format::Table => self.table(rows, columns),
            Format::Json => json(rows, true)?,
            Format::Jsonl => rows.iter().map(|row| json(row, false)).collect::<Result<String>>()?,
            Format::Yaml => yaml::text(&rows)?,
            Format::Name => rows.iter().map(|row| name(row) + "\n").collect(),
        })
    }

    /// Writes one thing; `text` is what people see of it.
    pub(super) fn one<T: Serialize>(&self, thing: &T, text: &str, name: &str) -> Result<()> {
        self.write(&match self.format {
            Format::Table => format!("{}\n", text.trim_end()),
            Format::Json => json(thing, true)?,
            Format::Jsonl => json(thing, false)?,
            Format::Yaml => yaml::text(thing)?,
            Format::Name => format!("{name}\n"),
        })
    }

    /// Writes text as it is. A reader that has gone away (`| head`) has seen enough: that is no error.
    pub(super) fn write(&self, text: &str) -> Result<()> {
        self.write_bytes(text.as_bytes()).map(drop)
    }

    /// Writes bytes as they are; false when nobody reads them any more.
    pub(super) fn write_bytes(&self, bytes: &[u8]) -> Result<bool> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(Error::io("writing the result", error)),
            Ok(()) => Ok(true),
        }
    }

    /// Whether nobody reads it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Whether a person looks at it.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// A list as people see it, as text.
    pub(super) fn table<T>(&self, rows: &[T], columns: &[Column<T>]) -> String {
        let header = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect::<Vec<_>>();
        let cells = rows.iter().map(|row| columns.iter().map(|(_, cell)| plain(&cell(row))).collect::<Vec<_>>());
        if !self.is_terminal {
            let lines = std::iter::once(header).chain(cells);
            return lines.map(|line| line.join("\t") + "\n").collect();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header).add_rows(cells);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt() + "\n"
    }
}

/// A line on standard error that says what was done, to whom it may concern; data never goes there.
pub(super) fn note(text: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "{text}");
}

fn json<T: Serialize + ?Sized>(value: &T, pretty: bool) -> Result<String> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map(|text| text + "\n").map_err(|e| Error::io("writing JSON", e.into()))
}

/// One line without control characters: what a run printed must not steer the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A time in UTC to the second.
pub(super) fn time(time: Option<DateTime<Utc>>) -> String {
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default()
}

/// What there is, or nothing.
pub(super) fn optional<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map(T::to_string).unwrap_or_default()
}

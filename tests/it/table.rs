//! The test data under `tests/data`: CSV with a header line.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

/// One line of a table; a column that is not there is a mistake in the test.
pub(crate) struct Row {
    pub(crate) line: usize,
    cells: HashMap<String, String>,
}

impl Row {
    pub(crate) fn get(&self, column: &str) -> &str {
        self.cells.get(column).unwrap_or_else(|| panic!("line {}: no column {column}", self.line))
    }

    /// `None` if the cell is empty.
    pub(crate) fn number(&self, column: &str) -> Option<i64> {
        let cell = self.get(column);
        (!cell.is_empty()).then(|| cell.parse().unwrap_or_else(|e| panic!("line {}: {column}: {e}", self.line)))
    }

    /// RFC 3339; `None` if the cell is empty.
    pub(crate) fn time(&self, column: &str) -> Option<DateTime<Utc>> {
        let cell = self.get(column);
        (!cell.is_empty()).then(|| rfc3339(cell))
    }
}

/// Reads a table and insists that it holds something.
pub(crate) fn read(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let header = cells(lines.next().unwrap());
    let row = |(k, line): (usize, &str)| {
        let cells = cells(line);
        assert_eq!(cells.len(), header.len(), "line {}: {line}", k + 2);
        Row { line: k + 2, cells: header.iter().cloned().zip(cells).collect() }
    };
    let rows: Vec<Row> = lines.enumerate().map(row).collect();
    assert!(rows.len() > 5, "only {} rows", rows.len());
    rows
}

pub(crate) fn rfc3339(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap_or_else(|e| panic!("{text}: {e}")).to_utc()
}

pub(crate) fn unix(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

/// The cells of a line; those in double quotes may hold commas.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            _ => cells.last_mut().unwrap().push(c),
        }
    }
    cells
}

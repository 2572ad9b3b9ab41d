//! The demo's account on the terminal: a line for each event, in columns.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use chrono::{DateTime, Local, Utc};

/// How a line looks in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    Loud,
    Quiet,
}

/// One event, column by column.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: DateTime<Utc>,
    /// Such as `w2 (pid 4711)`.
    pub(super) worker: String,
    pub(super) run: Option<i64>,
    /// The schedule, or the handler of a run without one.
    pub(super) name: String,
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// Where it is written.
pub(super) struct Account {
    in_colour: bool,
    is_closed: bool,
}

impl Account {
    pub(super) fn new() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { in_colour: io::stdout().is_terminal() && !no_colour, is_closed: false }
    }

    /// Whether the reader has gone away.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn title(&mut self, text: &str) {
        let text = format!("{}\n", self.painted(text, Tone::Loud));
        self.text(&text);
    }

    /// What was done while starting, and when.
    pub(super) fn fact(&mut self, name: &str, value: &str, after: Duration) {
        let after = self.painted(&format!("({:.1} s)", after.as_secs_f64()), Tone::Quiet);
        self.text(&format!("  {name:<10}{value}  {after}\n"));
    }

    pub(super) fn line(&mut self, line: &Line) {
        let at = line.at.with_timezone(&Local).format("%H:%M:%S");
        let run = line.run.map(|id| format!("run {id}")).unwrap_or_default();
        let text = self.painted(&line.text, line.tone);
        self.text(&format!("{at}  {:<14}  {run:<8}  {:<12}  {text}\n", line.worker, line.name));
    }

    /// A line that is no event.
    pub(super) fn say(&mut self, tone: Tone, text: &str) {
        let text = format!("{}\n", self.painted(text, tone));
        self.text(&text);
    }

    pub(super) fn text(&mut self, text: &str) {
        let mut stdout = io::stdout().lock();
        self.is_closed |= stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err();
    }

    fn painted(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Loud => "1",
            Tone::Quiet => "2",
        };
        if self.in_colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

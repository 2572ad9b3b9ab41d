//! A source outside the database: handlers note in a file that they start and end, even when they are killed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use watchbell::Context;

/// A file in the temporary directory, removed with its test.
pub struct Journal {
    path: PathBuf,
}

/// What one handler noted once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub run: i64,
    pub attempt: i32,
    pub fence: i64,
    /// `start`, `end` or `stop`.
    pub event: String,
    /// The process that noted it.
    pub pid: u32,
    /// What its host's clock said.
    pub wall: DateTime<Utc>,
    /// The schedule and the fire time that made the run.
    pub fire: Option<(String, DateTime<Utc>)>,
}

impl Journal {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("watchbell-journal-{:016x}", fastrand::u64(..)));
        fs::write(&path, "").unwrap();
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything noted so far, in order.
    pub fn entries(&self) -> Vec<Entry> {
        let text = fs::read_to_string(&self.path).unwrap();
        // a line that is being written has no end yet
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(entry).collect()
    }

    /// The attempts of one run that have started, in order.
    pub fn starts(&self, run: i64) -> Vec<i32> {
        self.entries().iter().filter(|e| e.run == run && e.event == "start").map(|e| e.attempt).collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Appends a line in one write, so that lines of several processes never mix.
pub fn note(path: &Path, ctx: &Context, event: &str) {
    #[expect(clippy::disallowed_methods, reason = "what a wrong clock says is what a test wants to see")]
    let wall = Utc::now();
    let (run, attempt, fence, wall) = (ctx.run_id().0, ctx.attempt(), ctx.fence(), wall.timestamp_micros());
    let (schedule, fire_at) = (ctx.schedule().unwrap_or("-"), ctx.fire_at().map_or(0, |at| at.timestamp_micros()));
    let line = format!("{run} {attempt} {fence} {event} {} {wall} {schedule} {fire_at}\n", std::process::id());
    OpenOptions::new().append(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
}

fn entry(line: &str) -> Entry {
    let words: Vec<&str> = line.split(' ').collect();
    let [run, attempt, fence, event, pid, wall, schedule, fire_at] = words[..] else {
        panic!("a line of the journal: {line}")
    };
    let time = |us: &str| DateTime::from_timestamp_micros(us.parse().unwrap()).unwrap();
    Entry {
        run: run.parse().unwrap(),
        attempt: attempt.parse().unwrap(),
        fence: fence.parse().unwrap(),
        event: event.to_owned(),
        pid: pid.parse().unwrap(),
        wall: time(wall),
        fire: (fire_at != "0").then(|| (schedule.to_owned(), time(fire_at))),
    }
}

//! What happened, as the tables say it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::account::{Line, Tone};
use super::fleet::Fleet;
use super::scene::Scene;
use crate::error::Result;

const EVENTS: &str = include_str!("events.sql");

/// Reads each event once.
#[derive(Default)]
pub(super) struct Events {
    seen: HashSet<(String, i64, i64)>,
    /// Attempts that failed so far.
    pub(super) failed_attempts: u64,
    /// When the first row of the sample table became normal.
    pub(super) first_normal: Option<DateTime<Utc>>,
}

impl Events {
    /// What is new since the last call, in order.
    pub(super) async fn fetch(&mut self, scene: &mut Scene, fleet: &Fleet) -> Result<Vec<Line>> {
        let rows = sqlx::query(EVENTS).bind(scene.queue).bind(scene.since).fetch_all(&mut scene.connection).await?;
        let mut lines = vec![];
        for row in rows {
            let event = Event {
                at: row.try_get("at")?,
                what: row.try_get("what")?,
                run: row.try_get("id")?,
                fence: row.try_get("fence")?,
                pid: row.try_get("pid")?,
                name: row.try_get("name")?,
                attempt: row.try_get("attempt")?,
                max_attempts: row.try_get("max_attempts")?,
                seconds: row.try_get("seconds")?,
                message: row.try_get("message")?,
                hosts: row.try_get("hosts")?,
            };
            if self.seen.insert((event.what.clone(), event.run, event.fence)) {
                lines.push(self.line(event, fleet));
            }
        }
        Ok(lines)
    }

    fn line(&mut self, event: Event, fleet: &Fleet) -> Line {
        let (text, tone) = match event.what.as_str() {
            "started" if event.attempt > 1 => {
                let how = event.message.map(|how| format!(", {how}")).unwrap_or_default();
                (format!("started, attempt {}{how}", event.attempt), Tone::Plain)
            }
            "started" => ("started".to_owned(), Tone::Plain),
            "attempt" => {
                self.failed_attempts += 1;
                let then =
                    event.seconds.map_or("no attempt left".to_owned(), |s| format!("again in {:.0} s", s.max(0.0)));
                let message = event.message.unwrap_or_default();
                (format!("attempt {} of {} failed: {message}; {then}", event.attempt, event.max_attempts), Tone::Bad)
            }
            "moved" => {
                self.first_normal.get_or_insert(event.at);
                (format!("pending -> normal: {}", event.hosts.unwrap_or_default()), Tone::Good)
            }
            "normal" if event.name == "demo.arrive" => {
                (format!("new rows, pending: {}", event.hosts.unwrap_or_default()), Tone::Plain)
            }
            status => {
                let attempt = if event.attempt > 1 { format!(" at attempt {}", event.attempt) } else { String::new() };
                let tone = if status == "normal" { Tone::Good } else { Tone::Bad };
                (format!("{status}{attempt} after {}", words(event.seconds.unwrap_or_default())), tone)
            }
        };
        let pid = event.pid.and_then(|pid| u32::try_from(pid).ok());
        let worker = pid.map(|pid| named(fleet, pid)).unwrap_or_default();
        let run = (event.what != "moved").then_some(event.run);
        Line { at: event.at, worker, run, name: event.name, text, tone }
    }
}

struct Event {
    at: DateTime<Utc>,
    what: String,
    /// The run, or the transaction in which a watch moved rows.
    run: i64,
    fence: i64,
    pid: Option<i32>,
    name: String,
    attempt: i32,
    max_attempts: i16,
    seconds: Option<f64>,
    message: Option<String>,
    hosts: Option<String>,
}

/// A worker as the account calls it.
pub(super) fn named(fleet: &Fleet, pid: u32) -> String {
    match fleet.label(pid) {
        "" => format!("(pid {pid})"),
        label => format!("{label} (pid {pid})"),
    }
}

fn words(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

//! Which runs there are: questions and assertions that say what was there instead.

use std::fmt::Write as _;
use std::panic::Location;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use super::Engine;
use super::contains::contains;
use crate::Result;
use crate::client::{RunRow, Runs};
use crate::duration;
use crate::run::Status;

/// Rows of a failure message.
const SHOWN_MAX: usize = 20;
/// Characters of a payload in it.
const PAYLOAD_SHOWN_MAX: usize = 200;

/// The runs that match everything that was asked for, from [`Engine::enqueued`] or [`Engine::runs`].
///
/// The assertions panic and say which runs there are instead; they answer what they found.
///
/// ```no_run
/// # async fn example(engine: &watchbell::testing::Engine) -> watchbell::Result<()> {
/// use serde_json::json;
/// use watchbell::Status;
///
/// let mail = engine.enqueued().handler("mail").payload(json!({"to": "a@b.c"})).assert_one().await;
/// assert_eq!(mail.unique_key.as_deref(), Some("order-7"));
/// engine.enqueued().handler("invoice").assert_none().await;
/// engine.runs().schedule("nightly").status(Status::Normal).assert_count(2).await;
/// let all = engine.runs().fetch().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it asks nothing until it is fetched or asserted"]
pub struct Selection {
    pool: PgPool,
    now: DateTime<Utc>,
    handlers: Vec<String>,
    status: Option<Status>,
    handler: Option<String>,
    queue: Option<String>,
    schedule: Option<String>,
    unique_key: Option<String>,
    tag: Option<String>,
    payload: Option<Value>,
    due_by: Option<DateTime<Utc>>,
    due_after: Option<DateTime<Utc>>,
}

impl Engine {
    /// Runs that wait: for their time, or for [`Engine::run_due`].
    pub fn enqueued(&self) -> Selection {
        self.runs().status(Status::Pending)
    }

    /// All runs, whatever became of them.
    pub fn runs(&self) -> Selection {
        Selection {
            pool: self.pool.clone(),
            now: self.now,
            handlers: self.who.handlers.clone(),
            status: None,
            handler: None,
            queue: None,
            schedule: None,
            unique_key: None,
            tag: None,
            payload: None,
            due_by: None,
            due_after: None,
        }
    }
}

impl Selection {
    /// Only with this status.
    pub fn status(self, status: Status) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Only for this handler.
    pub fn handler(self, name: impl Into<String>) -> Self {
        Self { handler: Some(name.into()), ..self }
    }

    /// Only in this queue.
    pub fn queue(self, name: impl Into<String>) -> Self {
        Self { queue: Some(name.into()), ..self }
    }

    /// Only of the schedule of this name.
    pub fn schedule(self, name: impl Into<String>) -> Self {
        Self { schedule: Some(name.into()), ..self }
    }

    /// Only with this unique key.
    pub fn unique_key(self, key: impl Into<String>) -> Self {
        Self { unique_key: Some(key.into()), ..self }
    }

    /// Only with this tag.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), ..self }
    }

    /// Only with a payload that contains this: objects with these keys, arrays with these elements.
    ///
    /// # Panics
    /// If it cannot be written as JSON.
    #[expect(clippy::expect_used, reason = "a test that cannot say what it expects has failed")]
    pub fn payload(self, part: impl Serialize) -> Self {
        let part = serde_json::to_value(part).expect("the payload to compare with cannot be written as JSON");
        Self { payload: Some(part), ..self }
    }

    /// Only due at this time or before.
    pub fn due_by(self, at: DateTime<Utc>) -> Self {
        Self { due_by: Some(at), ..self }
    }

    /// Only due later than this.
    pub fn due_after(self, at: DateTime<Utc>) -> Self {
        Self { due_after: Some(at), ..self }
    }

    /// The runs, the oldest first.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn fetch(&self) -> Result<Vec<RunRow>> {
        let mut rows = self.all().await?;
        rows.retain(|row| self.matches(row));
        Ok(rows)
    }

    /// Panics unless there is exactly one; answers it.
    ///
    /// # Panics
    /// As it says, with the runs that there are.
    #[track_caller]
    pub fn assert_one(self) -> impl Future<Output = RunRow> + Send {
        let found = self.assert(1, Location::caller());
        async move { found.await.swap_remove(0) }
    }

    /// Panics unless there is none.
    ///
    /// # Panics
    /// As it says, with the runs that there are.
    #[track_caller]
    pub fn assert_none(self) -> impl Future<Output = ()> + Send {
        let found = self.assert(0, Location::caller());
        async move { drop(found.await) }
    }

    /// Panics unless there are so many; answers them, the oldest first.
    ///
    /// # Panics
    /// As it says, with the runs that there are.
    #[track_caller]
    pub fn assert_count(self, count: usize) -> impl Future<Output = Vec<RunRow>> + Send {
        self.assert(count, Location::caller())
    }

    #[expect(clippy::panic, reason = "that is what an assertion is for")]
    async fn assert(self, count: usize, at: &'static Location<'static>) -> Vec<RunRow> {
        let all = match self.all().await {
            Ok(all) => all,
            Err(error) => panic!("the runs cannot be read: {error}\n  at {at}"),
        };
        let found: Vec<RunRow> = all.iter().filter(|row| self.matches(row)).cloned().collect();
        if found.len() == count {
            return found;
        }
        panic!("expected {count} {}, found {}{}\n  at {at}", self.described(count), found.len(), self.shown(&all));
    }

    async fn all(&self) -> Result<Vec<RunRow>> {
        let mut rows: Vec<RunRow> = vec![];
        loop {
            let mut page = Runs::new().limit(1000);
            if let Some(last) = rows.last() {
                page = page.before(last.id);
            }
            let page = page.fetch(&self.pool).await?;
            let full = page.len() == 1000;
            rows.extend(page);
            if !full {
                break;
            }
        }
        rows.reverse();
        Ok(rows)
    }

    fn matches(&self, row: &RunRow) -> bool {
        let is = |wanted: &Option<String>, there: Option<&str>| wanted.as_deref().is_none_or(|w| Some(w) == there);
        self.status.is_none_or(|status| status == row.status)
            && is(&self.handler, Some(&row.handler))
            && is(&self.queue, Some(&row.queue))
            && is(&self.schedule, row.schedule_name.as_deref())
            && is(&self.unique_key, row.unique_key.as_deref())
            && self.tag.as_ref().is_none_or(|tag| row.tags.contains(tag))
            && self.due_by.is_none_or(|at| row.run_at <= at)
            && self.due_after.is_none_or(|at| row.run_at > at)
            && self.payload.as_ref().is_none_or(|part| {
                serde_json::from_str(row.payload.get()).is_ok_and(|payload: Value| contains(&payload, part))
            })
    }

    /// What was asked for: `pending run of handler "mail" with a payload that contains {"to":"a@b.c"}`.
    fn described(&self, count: usize) -> String {
        let mut text = self.status.map(|status| format!("{status} ")).unwrap_or_default();
        text += if count == 1 { "run" } else { "runs" };
        for (what, value) in [
            ("of handler", &self.handler),
            ("in queue", &self.queue),
            ("of schedule", &self.schedule),
            ("with unique key", &self.unique_key),
            ("with tag", &self.tag),
        ] {
            if let Some(value) = value {
                let _ = write!(text, " {what} \"{value}\"");
            }
        }
        if let Some(part) = &self.payload {
            let _ = write!(text, " with a payload that contains {part}");
        }
        if let Some(at) = self.due_by {
            let _ = write!(text, " due by {at}");
        }
        if let Some(at) = self.due_after {
            let _ = write!(text, " due after {at}");
        }
        text
    }

    /// The runs that there are, a line each, the newest last.
    fn shown(&self, all: &[RunRow]) -> String {
        if all.is_empty() {
            return "; there are no runs at all".to_owned();
        }
        let mut text = String::from("; there are:");
        let left_out = all.len().saturating_sub(SHOWN_MAX);
        if left_out > 0 {
            let _ = write!(text, "\n  ... {left_out} older ones");
        }
        for row in &all[left_out..] {
            let mark = if self.matches(row) { '*' } else { ' ' };
            let _ = write!(text, "\n{mark} run {} \"{}\" {}", row.id, row.handler, row.status);
            if row.status == Status::Pending {
                let wait = row.run_at - self.now;
                let due =
                    if wait.num_milliseconds() > 0 { format!("in {}", duration::words(wait)) } else { "now".into() };
                let _ = write!(text, ", due {due}");
                if !self.handlers.contains(&row.handler) {
                    text += ", no such handler in this engine";
                }
            }
            let payload = row.payload.get();
            let _ = write!(text, " {}", payload.chars().take(PAYLOAD_SHOWN_MAX).collect::<String>());
            if payload.chars().count() > PAYLOAD_SHOWN_MAX {
                text += "...";
            }
            if let Some(error) = &row.error {
                let _ = write!(text, ", error: {error}");
            }
        }
        text
    }
}

//! Writing some columns of a schedule: a new one, or a patch of one that stands.

use sqlx::PgConnection;

use super::patch::{Noun, Patch};
use crate::error::{Error, Result};
use crate::schedule::{Dst, Spec};

/// The columns that people write, and their types.
const COLUMNS: &[(&str, &str)] = &[
    ("cron", "text"),
    ("fixed_delay", "interval"),
    ("fixed_rate", "interval"),
    ("run_at", "timestamptz"),
    ("timezone", "text"),
    ("dst", "text"),
    ("handler", "text"),
    ("payload", "jsonb"),
    ("queue", "text"),
    ("priority", "smallint"),
    ("max_attempts", "smallint"),
    ("retry", "jsonb"),
    ("timeout", "interval"),
    ("overlap", "text"),
    ("max_running", "integer"),
    ("misfire", "text"),
    ("misfire_grace", "interval"),
    ("catch_up_window", "interval"),
    ("catch_up_limit", "integer"),
    ("start_deadline", "interval"),
    ("jitter", "interval"),
    ("pause_after_failures", "integer"),
    ("concurrency_key", "text"),
    ("first_fire", "text"),
    ("starts_at", "timestamptz"),
    ("ends_at", "timestamptz"),
    ("max_fires", "bigint"),
    ("target", "text"),
    ("keep_alive", "boolean"),
    ("copies", "integer"),
    ("description", "text"),
    ("owner", "text"),
    ("runbook_url", "text"),
    ("tags", "text[]"),
    ("managed_by", "text"),
    ("name", "text"),
];

/// Those of which exactly one is set.
const SPECS: [&str; 4] = ["cron", "fixed_delay", "fixed_rate", "run_at"];

static SCHEDULE: Noun =
    Noun { name: "schedule", table: "watchbell.schedules", id_of: "watchbell.schedule_id", columns: COLUMNS };

/// Some columns of a schedule by their names, with values as PostgreSQL reads them; the others stay.
///
/// For programs whose users say which: a form, a command line. One that knows its schedule writes a
/// [`NewSchedule`](super::NewSchedule). A new time replaces the old one, whatever its kind.
///
/// ```no_run
/// # async fn example(mut connection: sqlx::PgConnection) -> watchbell::Result<()> {
/// use watchbell::client::ScheduleEdit;
///
/// let edit = ScheduleEdit::of("nightly").set("fixed_rate", "1 hour").set("overlap", "skip").unset("timeout");
/// edit.apply(&mut connection).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ScheduleEdit(Patch);

impl ScheduleEdit {
    /// The schedule of this name; nothing is changed yet.
    pub fn of(name: impl Into<String>) -> Self {
        Self(Patch::of(&SCHEDULE, name.into()))
    }

    /// Writes a column.
    #[must_use]
    pub fn set(self, column: impl Into<String>, value: impl Into<String>) -> Self {
        Self(self.0.with(column.into(), Some(value.into())))
    }

    /// Writes NULL to a column, which is its default, or none where there may be none (`timeout`, `retry`).
    #[must_use]
    pub fn unset(self, column: impl Into<String>) -> Self {
        Self(self.0.with(column.into(), None))
    }

    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses what no database is needed for: an unknown column, a name or an expression that cannot be.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the sentence that the database has for it.
    pub fn check(&self) -> Result<()> {
        self.0.check()?;
        if let Some(expression) = self.0.value("cron") {
            let dst = self.0.value("dst").and_then(|word| word.parse().ok()).unwrap_or(Dst::Once);
            let spec = Spec::cron(expression, self.0.value("timezone").unwrap_or("UTC"), dst);
            spec.map_err(|problem| Error::invalid(self.0.subject(), problem.to_string()))?;
        }
        Ok(())
    }

    /// Inserts it; answers its number. What is not set has its default.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one of this name; [`Error::Invalid`] before anything is sent; otherwise what
    /// the database answers.
    pub async fn insert(&self, connection: &mut PgConnection) -> Result<i64> {
        self.check()?;
        self.0.insert(connection).await
    }

    /// Writes the columns to the schedule, all or none; answers its version, which rises if something differs.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the nearest name; [`Error::Invalid`] before anything is sent; [`Error::Conflict`] for
    /// a new name that is taken; otherwise what the database answers.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<i64> {
        self.check()?;
        let has_time = SPECS.iter().any(|column| self.0.value(column).is_some());
        let others: &[&str] = if has_time { &SPECS } else { &[] };
        self.0.apply(others, connection).await
    }
}

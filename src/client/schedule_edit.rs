//! Writing some columns of a schedule: a new one, or a patch of one that stands.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, PgConnection};

use super::answer::answer;
use super::check;
use crate::db::Named;
use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::schedule::{Dst, Spec};

/// The columns that people write, and their types.
const COLUMNS: [(&str, &str); 36] = [
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

/// Those of which exactly one is set: the first four.
const SPECS: usize = 4;

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
pub struct ScheduleEdit {
    name: String,
    changes: Vec<(String, Option<String>)>,
}

impl ScheduleEdit {
    /// The schedule of this name; nothing is changed yet.
    pub fn of(name: impl Into<String>) -> Self {
        Self { name: name.into(), changes: vec![] }
    }

    /// Writes a column.
    #[must_use]
    pub fn set(self, column: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(column.into(), Some(value.into()))
    }

    /// Writes NULL to a column, which is its default, or none where there may be none (`timeout`, `retry`).
    #[must_use]
    pub fn unset(self, column: impl Into<String>) -> Self {
        self.with(column.into(), None)
    }

    fn with(mut self, column: String, value: Option<String>) -> Self {
        self.changes.retain(|(known, _)| *known != column);
        self.changes.push((column, value));
        self
    }

    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Refuses what no database is needed for: an unknown column, a name or an expression that cannot be.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the sentence that the database has for it.
    pub fn check(&self) -> Result<()> {
        for (column, _) in &self.changes {
            if !COLUMNS.iter().any(|(known, _)| known == column) {
                let near = did_you_mean(column, COLUMNS.iter().map(|(known, _)| *known));
                return Err(Error::invalid(
                    "column",
                    format!("\"{}\" is none of a schedule{near}", check::shown(column)),
                ));
            }
        }
        if !check::is_name(self.value("name").unwrap_or(&self.name)) {
            return Err(Error::invalid(self.subject(), "this is not a valid name"));
        }
        if let Some(expression) = self.value("cron") {
            let dst = self.value("dst").and_then(|word| word.parse().ok()).unwrap_or(Dst::Once);
            let spec = Spec::cron(expression, self.value("timezone").unwrap_or("UTC"), dst);
            spec.map_err(|problem| Error::invalid(self.subject(), problem.to_string()))?;
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
        let (mut columns, mut values) = (String::from("name"), String::from("$1"));
        for (n, (column, kind, _)) in self.typed().enumerate() {
            let _ = write!(columns, ", {column}");
            let _ = write!(values, ", ${}::text::{kind}", n + 2);
        }
        let text = format!("insert into watchbell.schedules ({columns}) values ({values}) returning id");
        let mut query = sqlx::query_scalar(AssertSqlSafe(text)).bind(&self.name);
        for (_, _, value) in self.typed() {
            query = query.bind(value);
        }
        match query.fetch_one(connection).await.named() {
            Err(Error::Conflict(_)) => {
                let problem = "exists already; change it with: watchbell schedule edit";
                Err(Error::Conflict(format!("{} {problem} {}", self.subject(), self.name)))
            }
            answer => answer,
        }
    }

    /// Writes the columns to the schedule, all or none; answers its version, which rises if something differs.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the nearest name; [`Error::Invalid`] before anything is sent; [`Error::Conflict`] for
    /// a new name that is taken; otherwise what the database answers.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<i64> {
        self.check()?;
        let query = sqlx::query_scalar("select watchbell.schedule_id($1)").bind(&self.name);
        let id: i64 = answer("schedule", &self.name, query.fetch_one(&mut *connection).await)?;
        let mut columns = vec!["version = version".to_owned()];
        columns.extend(
            self.typed().enumerate().map(|(n, (column, kind, _))| format!("{column} = ${}::text::{kind}", n + 2)),
        );
        let specs = &COLUMNS[..SPECS];
        if specs.iter().any(|(column, _)| self.value(column).is_some()) {
            let others = specs.iter().filter(|(column, _)| !self.changes.iter().any(|(set, _)| set == column));
            columns.extend(others.map(|(column, _)| format!("{column} = null")));
        }
        let text = format!("update watchbell.schedules set {} where id = $1 returning version", columns.join(", "));
        let mut query = sqlx::query_scalar(AssertSqlSafe(text)).bind(id);
        for (_, _, value) in self.typed() {
            query = query.bind(value);
        }
        match query.fetch_optional(connection).await.named()? {
            Some(version) => Ok(version),
            None => Err(Error::Conflict(format!("{} was deleted meanwhile", self.subject()))),
        }
    }

    fn value(&self, column: &str) -> Option<&str> {
        self.changes.iter().find(|(known, _)| known == column).and_then(|(_, value)| value.as_deref())
    }

    /// Each change with the column's own name and type: nothing of the caller's becomes part of a statement.
    fn typed(&self) -> impl Iterator<Item = (&'static str, &'static str, Option<&str>)> {
        self.changes.iter().filter_map(|(column, value)| {
            let (column, kind) = COLUMNS.iter().find(|(known, _)| known == column)?;
            Some((*column, *kind, value.as_deref()))
        })
    }

    fn subject(&self) -> String {
        format!("schedule \"{}\"", check::shown(&self.name))
    }
}

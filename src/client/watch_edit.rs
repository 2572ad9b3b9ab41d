//! Writing some columns of a watch: a new one, or a patch of one that stands.

use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;

use super::patch::{Noun, Patch};
use crate::db::Named;
use crate::error::{Error, Result};

/// The columns that people write, and their types.
const COLUMNS: &[(&str, &str)] = &[
    ("table_name", "text"),
    ("handler", "text"),
    ("payload", "jsonb"),
    ("key_columns", "text[]"),
    ("status_column", "text"),
    ("since_column", "text"),
    ("from_state", "text"),
    ("via_state", "text"),
    ("to_state", "text"),
    ("error_state", "text"),
    ("transitions", "jsonb"),
    ("mode", "text"),
    ("batch_size", "integer"),
    ("max_running", "integer"),
    ("rate_limit", "integer"),
    ("rate_period", "interval"),
    ("order_by", "text"),
    ("filter", "text"),
    ("poll_interval", "interval"),
    ("timeout", "interval"),
    ("retry", "jsonb"),
    ("max_attempts", "smallint"),
    ("description", "text"),
    ("owner", "text"),
    ("runbook_url", "text"),
    ("tags", "text[]"),
    ("managed_by", "text"),
    ("name", "text"),
];

/// Columns that belong to a watch of one step alone, and those of them that one of several may not have.
const ONE_STEP: [&str; 4] = ["handler", "via_state", "from_state", "to_state"];
const CLEARED: [&str; 2] = ["handler", "via_state"];

static WATCH: Noun = Noun { name: "watch", table: "watchbell.watches", id_of: "watchbell.watch_id", columns: COLUMNS };

/// Some columns of a watch by their names, with values as PostgreSQL reads them; the others stay.
///
/// For programs whose users say which: a form, a command line. One that knows its watch writes a
/// [`NewWatch`](super::NewWatch). Steps (`transitions`) replace the handler and the `via_state` of a watch that had
/// one step; to have one step again, unset `transitions` and set a handler.
///
/// The edit holds for rows that are taken from then on; those in work end as they were taken.
///
/// ```no_run
/// # async fn example(mut connection: sqlx::PgConnection) -> watchbell::Result<()> {
/// use watchbell::client::WatchEdit;
///
/// let edit = WatchEdit::of("hosts").set("batch_size", "20").set("filter", "disabled_at is null").unset("rate_limit");
/// edit.apply(&mut connection).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WatchEdit(Patch);

impl WatchEdit {
    /// The watch of this name; nothing is changed yet.
    pub fn of(name: impl Into<String>) -> Self {
        Self(Patch::of(&WATCH, name.into()))
    }

    /// Writes a column.
    #[must_use]
    pub fn set(self, column: impl Into<String>, value: impl Into<String>) -> Self {
        Self(self.0.with(column.into(), Some(value.into())))
    }

    /// Writes NULL to a column, which is its default, or none where there may be none (`timeout`, `via_state`).
    #[must_use]
    pub fn unset(self, column: impl Into<String>) -> Self {
        Self(self.0.with(column.into(), None))
    }

    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The handlers that it names, in the order of its steps.
    pub fn handlers(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Named {
            handler: Option<String>,
        }
        // what is no list of steps is for the database to say
        let steps = self.0.value("transitions").and_then(|text| serde_json::from_str::<Vec<Named>>(text).ok());
        let of_steps = steps.into_iter().flatten().filter_map(|step| step.handler);
        self.0.value("handler").map(str::to_owned).into_iter().chain(of_steps).collect()
    }

    /// Refuses what no database is needed for: an unknown column, a name that cannot be, text that is no JSON, steps
    /// beside what belongs into them.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the sentence that the database has for it.
    pub fn check(&self) -> Result<()> {
        self.0.check()?;
        if self.0.value("transitions").is_some() && self.is_of_one_step() {
            return Err(self.refuse_both());
        }
        for column in ["payload", "retry", "transitions"] {
            if let Some(Err(problem)) = self.0.value(column).map(serde_json::from_str::<&RawValue>) {
                let like = if column == "retry" { r#"; such as {"strategy": "fixed", "base": "30s"}"# } else { "" };
                return Err(Error::invalid(self.0.subject(), format!("{column} is not valid JSON: {problem}{like}")));
            }
        }
        Ok(())
    }

    /// Inserts it; answers its number. What is not set has its default; `table_name` must be set, and `handler` or
    /// `transitions`.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one of this name; [`Error::Invalid`] before anything is sent; otherwise what
    /// the database answers: a missing table, column, key or state, with the statement that mends it.
    pub async fn insert(&self, connection: &mut PgConnection) -> Result<i64> {
        self.check()?;
        self.0.insert(connection).await
    }

    /// Writes the columns to the watch, all or none; answers its version, which rises if something differs.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the nearest name; [`Error::Invalid`] before anything is sent; [`Error::Conflict`] for a
    /// new name that is taken, and for another key or table while rows are in work; otherwise what the database
    /// answers.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<i64> {
        self.check()?;
        if !self.0.has("transitions") && self.is_of_one_step() && self.has_steps(connection).await? {
            return Err(self.refuse_both());
        }
        let replaced: &[&str] = if self.0.value("transitions").is_some() { &CLEARED } else { &[] };
        self.0.apply(replaced, connection).await
    }

    /// Whether it writes what a list of steps would have in its place.
    fn is_of_one_step(&self) -> bool {
        ONE_STEP.iter().any(|column| self.0.value(column).is_some())
    }

    fn refuse_both(&self) -> Error {
        let problem = "from, via, to and handler belong to its steps, since it has some: change these, or unset them";
        Error::invalid(self.0.subject(), problem)
    }

    /// Whether the watch has a list of steps now.
    async fn has_steps(&self, connection: &mut PgConnection) -> Result<bool> {
        let query = "select w.transitions is not null from watchbell.watches w where w.name = $1";
        let found: Option<bool> =
            sqlx::query_scalar(query).bind(self.0.name()).fetch_optional(connection).await.named()?;
        Ok(found.unwrap_or(false))
    }
}

//! Some columns of a row that people write, by their names: all of a new row, or what is changed in one that stands.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, PgConnection};

use super::answer::answer;
use super::check;
use crate::db::Named;
use crate::error::{Error, Result};
use crate::nearest::did_you_mean;

/// What such rows are: `schedule`, in the table of that name with `id_of` to find one.
#[derive(Debug)]
pub(super) struct Noun {
    pub(super) name: &'static str,
    pub(super) table: &'static str,
    /// The function that answers the number of the one with this name.
    pub(super) id_of: &'static str,
    /// The columns that people write, and their types.
    pub(super) columns: &'static [(&'static str, &'static str)],
}

/// Columns with values as PostgreSQL reads them.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    noun: &'static Noun,
    name: String,
    changes: Vec<(String, Option<String>)>,
}

impl Patch {
    pub(super) fn of(noun: &'static Noun, name: String) -> Self {
        Self { noun, name, changes: vec![] }
    }

    /// The last value of a column counts; `None` is NULL.
    pub(super) fn with(mut self, column: String, value: Option<String>) -> Self {
        self.changes.retain(|(known, _)| *known != column);
        self.changes.push((column, value));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Of the row, before.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the column is written, if to NULL.
    pub(super) fn has(&self, column: &str) -> bool {
        self.changes.iter().any(|(known, _)| known == column)
    }

    pub(super) fn value(&self, column: &str) -> Option<&str> {
        self.changes.iter().find(|(known, _)| known == column).and_then(|(_, value)| value.as_deref())
    }

    /// Refuses an unknown column and a name that cannot be one.
    pub(super) fn check(&self) -> Result<()> {
        let columns = self.noun.columns.iter().map(|(known, _)| *known);
        for (column, _) in &self.changes {
            if !columns.clone().any(|known| known == column) {
                let near = did_you_mean(column, columns.clone());
                let problem = format!("\"{}\" is none of a {}{near}", check::shown(column), self.noun.name);
                return Err(Error::invalid("column", problem));
            }
        }
        if !check::is_name(self.value("name").unwrap_or(&self.name)) {
            return Err(Error::invalid(self.subject(), "this is not a valid name"));
        }
        Ok(())
    }

    /// Inserts a row; answers its number.
    pub(super) async fn insert(&self, connection: &mut PgConnection) -> Result<i64> {
        let (mut columns, mut values) = (String::from("name"), String::from("$1"));
        for (n, (column, kind, _)) in self.typed().enumerate() {
            let _ = write!(columns, ", {column}");
            let _ = write!(values, ", ${}::text::{kind}", n + 2);
        }
        let text = format!("insert into {} ({columns}) values ({values}) returning id", self.noun.table);
        let mut query = sqlx::query_scalar(AssertSqlSafe(text)).bind(&self.name);
        for (_, _, value) in self.typed() {
            query = query.bind(value);
        }
        match query.fetch_one(connection).await.named() {
            Err(Error::Conflict(_)) => {
                let problem = format!("exists already; change it with: watchbell {} edit", self.noun.name);
                Err(Error::Conflict(format!("{} {problem} {}", self.subject(), self.name)))
            }
            answer => answer,
        }
    }

    /// Writes the columns to the row of this name, and NULL to these; answers its version.
    pub(super) async fn apply(&self, cleared: &[&str], connection: &mut PgConnection) -> Result<i64> {
        let Noun { name, table, id_of, .. } = self.noun;
        let query = sqlx::query_scalar(AssertSqlSafe(format!("select {id_of}($1)"))).bind(&self.name);
        let id: i64 = answer(name, &self.name, query.fetch_one(&mut *connection).await)?;
        let mut columns = vec!["version = version".to_owned()];
        columns.extend(
            self.typed().enumerate().map(|(n, (column, kind, _))| format!("{column} = ${}::text::{kind}", n + 2)),
        );
        columns.extend(cleared.iter().filter(|column| !self.has(column)).map(|column| format!("{column} = null")));
        let text = format!("update {table} set {} where id = $1 returning version", columns.join(", "));
        let mut query = sqlx::query_scalar(AssertSqlSafe(text)).bind(id);
        for (_, _, value) in self.typed() {
            query = query.bind(value);
        }
        match query.fetch_optional(connection).await {
            Ok(Some(version)) => Ok(version),
            Ok(None) => Err(Error::Conflict(format!("{} was deleted meanwhile", self.subject()))),
            Err(sqlx::Error::Database(refusal)) if refusal.code().as_deref() == Some("55000") => {
                Err(Error::Conflict(refusal.message().to_owned()))
            }
            Err(error) => Err(error).named(),
        }
    }

    /// Each change with the column's own name and type: nothing of the caller's becomes part of a statement.
    fn typed(&self) -> impl Iterator<Item = (&'static str, &'static str, Option<&str>)> {
        self.changes.iter().filter_map(|(column, value)| {
            let (column, kind) = self.noun.columns.iter().find(|(known, _)| known == column)?;
            Some((*column, *kind, value.as_deref()))
        })
    }

    /// Its name in an error.
    pub(super) fn subject(&self) -> String {
        format!("{} \"{}\"", self.noun.name, check::shown(&self.name))
    }
}

//! A watched table as it is in the catalog. The one place where names of people's tables are looked up.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Step, Watch, quote};
use crate::{Error, Result};

const TABLE: &str = include_str!("../sql/8_watch_table.sql");
const COLUMNS: &str = include_str!("../sql/8_watch_columns.sql");
const UNIQUE: &str = include_str!("../sql/8_watch_unique.sql");

/// A table, and its columns that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its number in the catalog.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name there.
    pub name: String,
    /// What names a row, in order.
    pub key: Vec<Column>,
    /// The state.
    pub status: Column,
    /// Set at each move.
    pub since: Option<Column>,
    /// Every column.
    pub columns: Vec<Column>,
    /// Constraints that wait for the end of a transaction, as SET CONSTRAINTS takes them.
    pub deferred: Option<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type by its full name, quoted, without a length: `"pg_catalog"."int8"`.
    pub sql_type: String,
    /// Its type as people write it: `bigint`.
    pub shown_type: String,
    /// NOT NULL.
    pub not_null: bool,
    kind: Kind,
    place: Option<i32>,
    may_update: bool,
}

/// What a state may be in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Text,
    Enum(Vec<String>),
    /// Whole numbers in these bounds.
    Whole(i64, i64),
    Moment,
    Other,
}

impl Table {
    /// As in SQL, every name quoted.
    pub fn quoted(&self) -> String {
        quote::qualified(&self.schema, &self.name)
    }

    /// As a person would type it.
    pub fn shown(&self) -> String {
        format!("{}.{}", quote::shown(&self.schema), quote::shown(&self.name))
    }

    /// Looks a watch's table up: everything that its steps name is there and fits.
    ///
    /// # Errors
    /// [`Error::Invalid`]: one sentence, and the statement that mends it where one does. [`Error::Database`].
    pub async fn resolve(conn: &mut PgConnection, watch: &Watch) -> Result<Self> {
        let asked = &watch.table_name;
        let found = sqlx::query(TABLE).bind(asked).fetch_optional(&mut *conn).await.map_err(|e| unnamed(asked, e))?;
        let row = found.ok_or_else(|| Error::invalid("table_name", format!("table {asked} does not exist")))?;
        let (oid, kind): (sqlx::postgres::types::Oid, String) = (row.try_get("oid")?, row.try_get("kind")?);
        let (schema, name): (String, String) = (row.try_get("schema")?, row.try_get("name")?);
        let shown = format!("{}.{}", quote::shown(&schema), quote::shown(&name));
        let what = match kind.as_str() {
            "r" | "p" => None,
            "v" | "m" => Some("a view"),
            "f" => Some("a foreign table"),
            _ => Some("no table"),
        };
        if let Some(what) = what {
            return Err(Error::invalid("table_name", format!("{shown} is {what}; its rows cannot be locked")));
        }
        let columns = sqlx::query(COLUMNS).bind(oid).fetch_all(&mut *conn).await?;
        let columns = columns.iter().map(column).collect::<sqlx::Result<Vec<Column>>>()?;
        let status = find(&columns, &watch.status_column, "status_column", &shown, || {
            let (column, from) = (quote::shown(&watch.status_column), &watch.steps[0].from);
            format!("; run: ALTER TABLE {shown} ADD COLUMN {column} text NOT NULL DEFAULT {}", quote::literal(from))
        })?;
        let since = watch.since_column.as_ref().map(|since| {
            find(&columns, since, "since_column", &shown, || {
                format!("; run: ALTER TABLE {shown} ADD COLUMN {} timestamptz", quote::shown(since))
            })
        });
        let table = Self {
            oid: oid.0,
            key: key(conn, watch, oid, &columns, &shown).await?,
            status,
            since: since.transpose()?,
            columns,
            deferred: row.try_get("deferred")?,
            schema,
            name,
        };
        table.check(watch)?;
        table.check_rights(row.try_get("may_select")?, row.try_get("login")?)?;
        Ok(table)
    }

    /// A state as it stands in SQL, written so that a partial index made for it is found.
    pub fn state(&self, state: &str) -> String {
        match self.status.kind {
            Kind::Whole(..) => state.to_owned(),
            _ => quote::literal(state),
        }
    }

    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The index that a step is polled by.
    pub fn index(&self, columns: &str, step: &Step) -> String {
        let (table, status) = (self.shown(), quote::shown(&self.status.name));
        format!("CREATE INDEX CONCURRENTLY ON {table} ({columns}) WHERE {status} = {}", self.state(&step.from))
    }

    fn check(&self, watch: &Watch) -> Result<()> {
        if let Some(since) = &self.since
            && since.kind != Kind::Moment
        {
            let problem = format!("{} is {}, must be timestamptz", quote::shown(&since.name), since.shown_type);
            return Err(Error::invalid("since_column", problem));
        }
        let (column, shown) = (quote::shown(&self.status.name), self.shown());
        for step in &watch.steps {
            for state in [&step.from, &step.to, &step.error].into_iter().chain(&step.via) {
                let problem = match &self.status.kind {
                    Kind::Text => continue,
                    Kind::Enum(labels) if labels.contains(state) => continue,
                    Kind::Enum(labels) => {
                        let (kind, label) = (&self.status.shown_type, quote::literal(state));
                        let mend = format!("name one of these, or run: ALTER TYPE {kind} ADD VALUE {label}");
                        format!("\"{state}\" is none of the values of {shown}.{column} ({}); {mend}", labels.join(", "))
                    }
                    Kind::Whole(least, most) => match state.parse::<i64>() {
                        Ok(number) if (*least..=*most).contains(&number) && number.to_string() == *state => continue,
                        _ => format!("\"{state}\" does not fit {shown}.{column}, which is {}", self.status.shown_type),
                    },
                    Kind::Moment | Kind::Other => {
                        let found = &self.status.shown_type;
                        let problem =
                            format!("{shown}.{column} is {found}; a state is text, an enum or a whole number");
                        return Err(Error::invalid("status_column", problem));
                    }
                };
                return Err(Error::invalid("state", problem));
            }
        }
        Ok(())
    }

    fn check_rights(&self, may_select: bool, login: String) -> Result<()> {
        let may_update = self.status.may_update && self.since.as_ref().is_none_or(|since| since.may_update);
        if may_select && may_update {
            return Ok(());
        }
        let (shown, login) = (self.shown(), quote::shown(&login));
        let problem =
            format!("{login} may not read and update {shown}; run: GRANT SELECT, UPDATE ON {shown} TO {login}");
        Err(Error::invalid("table_name", problem))
    }
}

impl Column {
    /// A column of pg_catalog's own type, as statements see it.
    #[cfg(test)]
    pub(super) fn plain(name: &str, sql_type: &str, not_null: bool) -> Self {
        Self {
            name: name.to_owned(),
            sql_type: quote::qualified("pg_catalog", sql_type),
            shown_type: sql_type.to_owned(),
            not_null,
            kind: Kind::Text,
            place: None,
            may_update: true,
        }
    }
}

async fn key(
    conn: &mut PgConnection,
    watch: &Watch,
    oid: sqlx::postgres::types::Oid,
    columns: &[Column],
    shown: &str,
) -> Result<Vec<Column>> {
    let Some(asked) = &watch.key_columns else {
        let mut key: Vec<Column> = columns.iter().filter(|column| column.place.is_some()).cloned().collect();
        key.sort_by_key(|column| column.place);
        if key.is_empty() {
            let has_id = columns.iter().any(|column| column.name == "id");
            let mend =
                if has_id { "PRIMARY KEY (id)" } else { "COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY" };
            let problem =
                format!("{shown} has no primary key; name unique columns here, or run: ALTER TABLE {shown} ADD {mend}");
            return Err(Error::invalid("key_columns", problem));
        }
        return Ok(key);
    };
    if asked.is_empty() {
        return Err(Error::invalid("key_columns", "the list is empty; leave it out for the primary key"));
    }
    let key = asked.iter().map(|name| find(columns, name, "key_columns", shown, String::new));
    let key = key.collect::<Result<Vec<Column>>>()?;
    if let Some(column) = key.iter().find(|column| !column.not_null) {
        let name = quote::shown(&column.name);
        let problem = format!("{name} may be null; run: ALTER TABLE {shown} ALTER COLUMN {name} SET NOT NULL");
        return Err(Error::invalid("key_columns", problem));
    }
    if !sqlx::query_scalar::<_, bool>(UNIQUE).bind(oid).bind(asked).fetch_one(conn).await? {
        let list: Vec<String> = asked.iter().map(|name| quote::shown(name)).collect();
        let list = list.join(", ");
        let problem =
            format!("({list}) names no single row; run: CREATE UNIQUE INDEX CONCURRENTLY ON {shown} ({list})");
        return Err(Error::invalid("key_columns", problem));
    }
    Ok(key)
}

fn find(columns: &[Column], name: &str, field: &str, shown: &str, mend: impl FnOnce() -> String) -> Result<Column> {
    let found = columns.iter().find(|column| column.name == name).cloned();
    found.ok_or_else(|| Error::invalid(field, format!("{shown} has no column {}{}", quote::shown(name), mend())))
}

fn column(row: &PgRow) -> sqlx::Result<Column> {
    let (schema, name): (String, String) = (row.try_get("type_schema")?, row.try_get("type_name")?);
    let (category, base): (String, String) = (row.try_get("category")?, row.try_get("base")?);
    let kind = match (category.as_str(), base.as_str()) {
        ("S", _) => Kind::Text,
        ("E", _) => Kind::Enum(row.try_get::<Option<Vec<String>>, _>("labels")?.unwrap_or_default()),
        (_, "int2") => Kind::Whole(i16::MIN.into(), i16::MAX.into()),
        (_, "int4") => Kind::Whole(i32::MIN.into(), i32::MAX.into()),
        (_, "int8") => Kind::Whole(i64::MIN, i64::MAX),
        (_, "timestamptz") => Kind::Moment,
        _ => Kind::Other,
    };
    Ok(Column {
        name: row.try_get("name")?,
        sql_type: quote::qualified(&schema, &name),
        shown_type: row.try_get("shown")?,
        not_null: row.try_get("not_null")?,
        kind,
        place: row.try_get("place")?,
        may_update: row.try_get("may_update")?,
    })
}

/// A name that PostgreSQL cannot even read is the row's fault.
fn unnamed(asked: &str, error: sqlx::Error) -> Error {
    match error.as_database_error() {
        Some(answer) if answer.code().is_some_and(|code| code.starts_with("42") || code.starts_with("22")) => {
            Error::invalid("table_name", format!("\"{asked}\" cannot be looked up: {}", answer.message()))
        }
        _ => error.into(),
    }
}

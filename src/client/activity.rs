//! Who changed what, and on whose behalf this program does.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use super::run_list::page_limit;
use crate::db::Named;
use crate::error::Result;

/// Says in whose name the rest of this transaction acts, for `watchbell.activity`.
///
/// Outside a transaction it says nothing. The login of the session is recorded beside it in any case.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client;
///
/// let mut tx = pool.begin().await?;
/// client::act_for(&mut *tx, "anna@example.org").await?;
/// client::pause(&mut *tx, "nightly", Some("the warehouse moves"), None).await?;
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the database answers.
pub async fn act_for(executor: impl PgExecutor<'_>, actor: &str) -> Result<()> {
    let call = sqlx::query("select set_config('watchbell.actor', $1, true)").bind(actor);
    call.execute(executor).await.map(drop).named()
}

/// One change of a schedule, queue, limit, worker or run.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ActivityRow {
    /// Its number, which rises.
    pub id: i64,
    /// When the transaction that made it began.
    pub at: DateTime<Utc>,
    /// In whose name it was made; the login if none was given.
    pub actor: String,
    /// The login of the session.
    pub login: String,
    /// What the session called itself.
    pub application_name: Option<String>,
    /// `insert`, `update`, `delete`, or the function: `pause`, `resume`, `run_now` and the like.
    pub what: String,
    /// `schedule`, `queue`, `limit`, `worker` or `run`.
    pub kind: String,
    /// The object's name, where it has one.
    pub name: Option<String>,
    /// The object's number, where it has one.
    pub object_id: Option<i64>,
    /// The columns that changed, as they were: a JSON object.
    pub before: Option<Box<RawValue>>,
    /// The same as they are since.
    pub after: Option<Box<RawValue>>,
}

impl ActivityRow {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let json = |column: &str| -> Result<_, sqlx::Error> {
            let text: Option<String> = row.try_get(column)?;
            text.map(RawValue::from_string).transpose().map_err(|e| sqlx::Error::Decode(e.into()))
        };
        Ok(Self {
            id: row.try_get("id")?,
            at: row.try_get("at")?,
            actor: row.try_get("actor")?,
            login: row.try_get("login")?,
            application_name: row.try_get("application_name")?,
            what: row.try_get("what")?,
            kind: row.try_get("kind")?,
            name: row.try_get("name")?,
            object_id: row.try_get("object_id")?,
            before: json("before")?,
            after: json("after")?,
        })
    }
}

/// A page of changes, the newest first: all that match every filter given.
///
/// The page after it is asked for with the last id of this one as [`before`](Self::before).
#[derive(Debug, Clone, Default)]
pub struct Activity {
    kind: Option<String>,
    name: Option<String>,
    actor: Option<String>,
    before: Option<i64>,
    limit: Option<u32>,
}

impl Activity {
    /// The newest 50 changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only of this kind of object: `schedule`, `queue`, `limit`, `worker` or `run`.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> Self {
        Self { kind: Some(kind.into()), ..self }
    }

    /// Only of the objects of this name.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Only in this one's name.
    #[must_use]
    pub fn actor(self, actor: impl Into<String>) -> Self {
        Self { actor: Some(actor.into()), ..self }
    }

    /// Only those before this one: the last of the page before.
    #[must_use]
    pub fn before(self, id: i64) -> Self {
        Self { before: Some(id), ..self }
    }

    /// How many at most: 1 to 1000, 50 if not given.
    #[must_use]
    pub fn limit(self, rows: u32) -> Self {
        Self { limit: Some(rows), ..self }
    }

    /// Reads the page.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a limit out of range; [`Error::Denied`](crate::Error::Denied) for
    /// a role that may not read it, as a producer may not.
    pub async fn fetch(&self, executor: impl PgExecutor<'_>) -> Result<Vec<ActivityRow>> {
        let rows = sqlx::query(include_str!("../sql/client/list_activity.sql"))
            .bind(self.kind.as_deref())
            .bind(self.name.as_deref())
            .bind(self.actor.as_deref())
            .bind(self.before)
            .bind(page_limit(self.limit)?)
            .fetch_all(executor)
            .await
            .named()?;
        rows.iter().map(ActivityRow::read).collect::<Result<_, _>>().named()
    }
}

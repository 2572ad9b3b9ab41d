//! One watch to be inserted, or declared again at each start.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgExecutor, Postgres, Row};

use super::new_run::interval;
use super::{Change, Watch, check};
use crate::db::Named;
use crate::error::{Error, Result};

/// A watch that is wanted, under a name that identifies it.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{NewWatch, Watch};
///
/// let hosts = NewWatch::new("hosts", Watch::table("public.hosts").handler("init_host"));
/// hosts.upsert(&pool).await?;
/// let again = NewWatch::new("hosts", Watch::table("public.hosts")).insert(&pool).await; // Conflict
/// # let _ = again;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NewWatch {
    pub(super) name: String,
    watch: Watch,
    managed_by: Option<String>,
    declared_version: Option<i64>,
}

impl NewWatch {
    /// A watch of this name: 1 to 128 letters, digits and `. _ : -`.
    pub fn new(name: impl Into<String>, watch: Watch) -> Self {
        Self { name: name.into(), watch, managed_by: None, declared_version: None }
    }

    /// The program or file that its definition comes from.
    #[must_use]
    pub fn managed_by(self, name: impl Into<String>) -> Self {
        Self { managed_by: Some(name.into()), ..self }
    }

    /// Rises with the declaring program: an upsert with a lower one than the watch's changes nothing.
    #[must_use]
    pub fn declared_version(self, version: i64) -> Self {
        Self { declared_version: Some(version), ..self }
    }

    /// Inserts it; answers its number.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one of this name; [`Error::Invalid`] before anything is sent; otherwise what the
    /// database answers: a missing table, column, key or state, with the statement that mends it.
    pub async fn insert(&self, executor: impl PgExecutor<'_>) -> Result<i64> {
        self.check()?;
        let statement = sqlx::query(concat!(include_str!("../sql/client/new_watch.sql"), "returning id"));
        let transitions = self.watch.transitions();
        match self.bind(&transitions, statement).fetch_one(executor).await.named() {
            Err(Error::Conflict(_)) => Err(Error::Conflict(format!("watch \"{}\" exists already", self.name))),
            row => row?.try_get(0).named(),
        }
    }

    /// Inserts it, or makes the one of this name the same; what is the same already stays untouched, and so does a pause.
    ///
    /// # Errors
    /// [`Error::Invalid`] before anything is sent; otherwise what the database answers.
    pub async fn upsert(&self, executor: impl PgExecutor<'_>) -> Result<Change> {
        self.check()?;
        let statement = sqlx::query(concat!(
            include_str!("../sql/client/new_watch.sql"),
            include_str!("../sql/client/upsert_watch.sql")
        ));
        let transitions = self.watch.transitions();
        let row = self.bind(&transitions, statement).fetch_optional(executor).await.named()?;
        let inserted: Option<bool> = row.map(|row| row.try_get(0)).transpose().named()?;
        Ok(match inserted {
            Some(true) => Change::Inserted,
            Some(false) => Change::Updated,
            None => Change::Unchanged,
        })
    }

    /// The handlers of its steps.
    pub(crate) fn handlers(&self) -> Vec<&str> {
        self.watch.handlers(&self.name)
    }

    pub(super) fn subject(&self) -> String {
        format!("watch \"{}\"", check::shown(&self.name))
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !check::is_name(&self.name) {
            return Err(Error::invalid(self.subject(), "this is not a valid name"));
        }
        self.watch.check().map_err(|problem| Error::invalid(self.subject(), problem))
    }

    /// Binds all columns, $1 to $29, in the order of the statement.
    fn bind<'q>(
        &'q self,
        transitions: &'q Option<String>,
        statement: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        let (watch, work) = (&self.watch, &self.watch.work);
        let handler = transitions.is_none().then(|| work.handler.as_deref().unwrap_or(&self.name));
        statement
            .bind(&self.name)
            .bind(&watch.table)
            .bind(handler)
            .bind(work.payload.as_deref())
            .bind(watch.key.as_deref())
            .bind(watch.status.as_deref())
            .bind(watch.since.as_deref())
            .bind(work.from.as_deref())
            .bind(work.via.as_deref())
            .bind(work.to.as_deref())
            .bind(work.error.as_deref())
            .bind(transitions.as_deref())
            .bind(work.mode)
            .bind(work.batch_size)
            .bind(work.max_running)
            .bind(work.rate.map(|(rows, _)| rows))
            .bind(work.rate.map(|(_, period)| interval(period)))
            .bind(work.order_by.as_deref())
            .bind(work.filter.as_deref())
            .bind(watch.poll_interval.map(interval))
            .bind(work.timeout.interval())
            .bind(work.retry.as_deref())
            .bind(work.max_attempts)
            .bind(watch.description.as_deref())
            .bind(watch.owner.as_deref())
            .bind(watch.runbook_url.as_deref())
            .bind(&watch.tags)
            .bind(self.managed_by.as_deref())
            .bind(self.declared_version)
    }
}

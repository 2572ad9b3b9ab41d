//! All schedules and watches of a program, declared at each start: one transaction under the program's name.
//!
//! **In** the schedules and watches that a program has, its name (the owner) and the version of its release. **Out**
//! the rows of `schedules` and `watches` that say the same, `managed_by` the owner; those of the owner that are no
//! longer declared are named, or removed if asked. **Lock** an advisory lock for all declarations, so that replicas
//! take turns, then the schedules by id, then the watches by id, until the commit. Whoever else holds one of them is
//! waited for, 5 s at a time and three times. **Crash** before the commit: nothing is declared.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::{Connection, PgConnection, Row};

use super::{Change, Declared, DeclaredWatches, NewSchedule, NewWatch, check};
use crate::db::Named;
use crate::error::{Error, Result};
use crate::lifecycle::register;

/// How often the transaction is tried.
const TRIES: u32 = 3;

/// The most schedules, and the most watches, in one declaration.
const ITEMS_MAX: usize = 10_000;

/// All schedules that one program declares, under its own name.
///
/// [`worker::Builder`](crate::worker::Builder) does this at its start; it is for programs that declare
/// schedules and run no worker.
///
/// ```no_run
/// use watchbell::client::{Declaration, NewSchedule};
/// use watchbell::{cron, fixed_delay, minutes};
///
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// let declared = Declaration::of("billing")
///     .version(7)
///     .schedule(NewSchedule::new("invoices", cron("0 2 * * *"), "invoices"))
///     .schedule(NewSchedule::new("dunning", fixed_delay(minutes(5)), "dunning"))
///     .apply(&mut *pool.acquire().await?)
///     .await?;
/// println!("no longer declared: {:?}", declared.undeclared);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Declaration {
    owner: String,
    version: i64,
    adopt: bool,
    remove_undeclared: bool,
    schedules: Vec<NewSchedule>,
    watches: Vec<NewWatch>,
    /// Handlers of the declaring worker: nothing warns that nobody has them.
    handlers: Vec<String>,
}

/// A row that stands already.
struct Standing {
    id: i64,
    managed_by: Option<String>,
    declared_version: i64,
}

impl Declaration {
    /// No schedules yet, of the program of this name, at most 256 bytes.
    pub fn of(owner: impl Into<String>) -> Self {
        Self {
            owner: owner.into(),
            version: 0,
            adopt: false,
            remove_undeclared: false,
            schedules: vec![],
            watches: vec![],
            handlers: vec![],
        }
    }

    /// Whose schedules these are.
    pub(crate) fn set_owner(&mut self, owner: String) {
        self.owner = owner;
    }

    /// The release: what a higher one declared, this one neither changes nor removes. 0 by default.
    #[must_use]
    pub fn version(mut self, version: i64) -> Self {
        self.version = version;
        self
    }

    /// Takes over schedules of these names that somebody else manages, instead of refusing.
    #[must_use]
    pub fn adopt(mut self, adopt: bool) -> Self {
        self.adopt = adopt;
        self
    }

    /// Deletes the owner's schedules that are not declared here; their runs stay.
    #[must_use]
    pub fn remove_undeclared(mut self, remove: bool) -> Self {
        self.remove_undeclared = remove;
        self
    }

    /// Adds a schedule. Its own `managed_by` and `declared_version` are replaced by this declaration's.
    #[must_use]
    pub fn schedule(mut self, schedule: NewSchedule) -> Self {
        self.push(schedule);
        self
    }

    pub(crate) fn push(&mut self, schedule: NewSchedule) {
        self.schedules.push(schedule);
    }

    /// Adds a watch. Its own `managed_by` and `declared_version` are replaced by this declaration's.
    #[must_use]
    pub fn watch(mut self, watch: NewWatch) -> Self {
        self.push_watch(watch);
        self
    }

    pub(crate) fn push_watch(&mut self, watch: NewWatch) {
        self.watches.push(watch);
    }

    /// Makes these handlers known with the declaration; `names` sorted.
    pub(crate) fn knowing(mut self, names: Vec<String>) -> Self {
        self.handlers = names;
        self
    }

    /// Who is declared to have work for which handler.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = (String, &str)> {
        let of_schedules = self.schedules.iter().map(|schedule| (schedule.subject(), schedule.handler.as_str()));
        let of_watch = |watch: &NewWatch, handler| (watch.subject(), handler);
        let of_watches =
            self.watches.iter().flat_map(move |watch| watch.handlers().into_iter().map(move |h| of_watch(watch, h)));
        of_schedules.chain(of_watches)
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.schedules.is_empty() && self.watches.is_empty()
    }

    /// Whether undeclared schedules are to be removed.
    pub(crate) fn removes(&self) -> bool {
        self.remove_undeclared
    }

    /// Whose schedules these are.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Refuses what no database is needed for: a name given twice, a malformed schedule.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the schedule and the reason.
    pub fn check(&self) -> Result<()> {
        if self.owner.is_empty() || self.owner.len() > 256 {
            let problem = format!("\"{}\" must have 1 to 256 bytes", check::shown(&self.owner));
            return Err(Error::invalid("owner", problem));
        }
        check_all(&self.schedules)?;
        check_all(&self.watches)
    }

    /// Makes the rows say what is declared, all of them or none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed schedule, [`Error::Conflict`] for a name that somebody else
    /// manages, or when another session keeps a row locked.
    pub async fn apply(&self, conn: &mut PgConnection) -> Result<Declared> {
        self.check()?;
        let mut tries = 1;
        loop {
            let problem = match self.attempt(conn).await {
                Ok(Some(declared)) => return Ok(declared),
                Ok(None) => "one of a declared name appeared meanwhile".to_owned(),
                Err(Error::Database(sqlx::Error::Database(e))) if is_lock_trouble(&*e) => e.message().to_owned(),
                Err(error) => return Err(error),
            };
            if tries == TRIES {
                return Err(Error::Conflict(format!(
                    "what \"{}\" declares could not be declared in {TRIES} tries, because other sessions lock or change \
                     it: {problem}",
                    self.owner
                )));
            }
            tries += 1;
        }
    }

    /// One transaction; `None` when one of a declared name appeared meanwhile.
    async fn attempt(&self, conn: &mut PgConnection) -> Result<Option<Declared>> {
        let mut tx = conn.begin().await?;
        // one at a time: replicas start together; two statements, as the second must see what the first waited for
        sqlx::raw_sql(
            "set local lock_timeout = '5s'; \
             select pg_advisory_xact_lock(hashtextextended('watchbell:declare', 0))",
        )
        .execute(&mut *tx)
        .await?;
        if !self.handlers.is_empty() {
            register::make_known(&mut tx, &self.handlers).await.named()?;
        }
        let Some(schedules) = self.declare(&self.schedules, &mut tx).await? else { return Ok(None) };
        let Some(watches) = self.declare(&self.watches, &mut tx).await? else { return Ok(None) };
        tx.commit().await?;
        Ok(Some(Declared::of(schedules, watches)))
    }

    /// All of one kind.
    async fn declare<T: Item>(&self, items: &[T], tx: &mut PgConnection) -> Result<Option<DeclaredWatches>> {
        let standing = self.lock(items, tx).await?;
        let foreign = self.foreign(items, &standing)?;
        if !foreign.is_empty() {
            sqlx::query(T::ADOPT).bind(foreign).execute(&mut *tx).await.named()?;
        }
        let mut declared = DeclaredWatches::default();
        for item in items {
            let name = item.name().to_owned();
            if standing.get(&name).is_some_and(|row| self.owns(row) && row.declared_version > self.version) {
                declared.newer.push(name);
                continue;
            }
            let change = item.declare(&self.owner, self.version, tx).await;
            match change.map_err(|error| of(&item.subject(), error))? {
                Change::Inserted => declared.inserted.push(name),
                _ if !standing.contains_key(&name) => return Ok(None), // whose it is was not looked at
                Change::Updated => declared.updated.push(name),
                Change::Unchanged => declared.unchanged.push(name),
            }
        }
        self.leave(items, &standing, &mut declared, tx).await?;
        Ok(Some(declared))
    }

    async fn lock<T: Item>(&self, items: &[T], tx: &mut PgConnection) -> Result<BTreeMap<String, Standing>> {
        let names: Vec<&str> = items.iter().map(Item::name).collect();
        let rows = sqlx::query(T::LOCK).bind(names).bind(&self.owner).fetch_all(tx).await.named()?;
        let standing = |row: &sqlx::postgres::PgRow| {
            let declared_version = row.try_get::<Option<i64>, _>(3)?.unwrap_or(0);
            Ok((row.try_get(1)?, Standing { id: row.try_get(0)?, managed_by: row.try_get(2)?, declared_version }))
        };
        rows.iter().map(standing).collect::<sqlx::Result<_>>().named()
    }

    fn owns(&self, row: &Standing) -> bool {
        row.managed_by.as_deref() == Some(&self.owner)
    }

    /// Declared ones that somebody else manages: refused, or those to be adopted.
    fn foreign<T: Item>(&self, items: &[T], standing: &BTreeMap<String, Standing>) -> Result<Vec<i64>> {
        let mut foreign = vec![];
        for item in items {
            let Some(row) = standing.get(item.name()).filter(|row| !self.owns(row)) else { continue };
            if !self.adopt {
                let whose = match &row.managed_by {
                    Some(other) => format!("is managed by \"{}\"", check::shown(other)),
                    None => "was not declared by a program (managed_by is null)".to_owned(),
                };
                return Err(Error::Conflict(format!(
                    "{} {whose}, so \"{}\" does not change it; take it over with adopt(true), or choose another name",
                    item.subject(),
                    self.owner
                )));
            }
            foreign.push(row.id);
        }
        Ok(foreign)
    }

    /// Names, or removes, what the owner has and does not declare; nothing that a newer release declared.
    async fn leave<T: Item>(
        &self,
        items: &[T],
        standing: &BTreeMap<String, Standing>,
        declared: &mut DeclaredWatches,
        tx: &mut PgConnection,
    ) -> Result<()> {
        let names: BTreeSet<&str> = items.iter().map(Item::name).collect();
        let left = standing.iter().filter(|(name, row)| {
            self.owns(row) && row.declared_version <= self.version && !names.contains(name.as_str())
        });
        let (left, ids): (Vec<String>, Vec<i64>) = left.map(|(name, row)| (name.clone(), row.id)).unzip();
        if !self.remove_undeclared {
            declared.undeclared = left;
        } else if !ids.is_empty() {
            sqlx::query(T::REMOVE).bind(ids).execute(tx).await.named()?;
            declared.removed = left;
        }
        Ok(())
    }
}

/// What is declared: schedules and watches alike.
trait Item {
    /// The rows of these names and all of an owner, locked.
    const LOCK: &'static str;
    /// Forgets the version of those that change hands.
    const ADOPT: &'static str;
    /// Deletes.
    const REMOVE: &'static str;
    /// What several are called.
    const KIND: &'static str;

    fn name(&self) -> &str;

    fn subject(&self) -> String;

    fn check(&self) -> Result<()>;

    /// Makes the row say the same, as of this owner and version.
    async fn declare(&self, owner: &str, version: i64, tx: &mut PgConnection) -> Result<Change>;
}

impl Item for NewSchedule {
    const LOCK: &'static str = include_str!("../sql/client/declared_lock.sql");
    const ADOPT: &'static str = include_str!("../sql/client/declared_adopt.sql");
    const REMOVE: &'static str = include_str!("../sql/client/declared_remove.sql");
    const KIND: &'static str = "schedules";

    fn name(&self) -> &str {
        &self.name
    }

    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn check(&self) -> Result<()> {
        Self::check(self)
    }

    async fn declare(&self, owner: &str, version: i64, tx: &mut PgConnection) -> Result<Change> {
        self.clone().managed_by(owner).declared_version(version).upsert(tx).await
    }
}

impl Item for NewWatch {
    const LOCK: &'static str = include_str!("../sql/client/declared_watches_lock.sql");
    const ADOPT: &'static str = include_str!("../sql/client/declared_watches_adopt.sql");
    const REMOVE: &'static str = include_str!("../sql/client/declared_watches_remove.sql");
    const KIND: &'static str = "watches";

    fn name(&self) -> &str {
        &self.name
    }

    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn check(&self) -> Result<()> {
        Self::check(self)
    }

    async fn declare(&self, owner: &str, version: i64, tx: &mut PgConnection) -> Result<Change> {
        self.clone().managed_by(owner).declared_version(version).upsert(tx).await
    }
}

fn check_all<T: Item>(items: &[T]) -> Result<()> {
    if items.len() > ITEMS_MAX {
        let problem = format!("{} are declared, more than the limit of {ITEMS_MAX}", items.len());
        return Err(Error::invalid(T::KIND, problem));
    }
    let mut names = BTreeSet::new();
    for item in items {
        item.check()?;
        if !names.insert(item.name()) {
            return Err(Error::invalid(item.subject(), "is declared twice"));
        }
    }
    Ok(())
}

/// Whether another session stood in the way: trying again may help.
fn is_lock_trouble(answer: &dyn DatabaseError) -> bool {
    matches!(answer.code().as_deref(), Some("55P03" | "40P01" | "40001"))
}

/// An answer of the database about one of them, with its name and, for a watch, with the statement that mends it.
fn of(subject: &str, error: Error) -> Error {
    match error {
        Error::Database(sqlx::Error::Database(e)) if !is_lock_trouble(&*e) => {
            let problem = e.message();
            let said = problem.strip_prefix(subject).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(problem);
            let hint = e.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::hint);
            match hint.filter(|_| subject.starts_with("watch ")) {
                Some(hint) => Error::invalid(subject, format!("{said} ({hint})")),
                None => Error::invalid(subject, said),
            }
        }
        other => other,
    }
}

//! The schema's versions: what is applied, what is missing, and applying it.
//!
//! Migrations only add: a build works with every schema from [`OLDEST`] up to one that a newer build has
//! migrated, unless that asks for more (`min_build`). So a new release migrates first, and old and new
//! workers run side by side. sqlx's own migrator is not used: its blocking lock holds a snapshot, for which
//! `CREATE INDEX CONCURRENTLY` waits for ever. Ours is tried again and again, and holds none.
//!
//! ```no_run
//! # async fn example(connection: &mut sqlx::PgConnection) -> watchbell::Result<()> {
//! use watchbell::migrate::{self, OLDEST, PATIENCE, Report, Step, VERSION};
//!
//! println!("this build works with versions {OLDEST} to {VERSION}");
//! for Step { version, name, applied_at, .. } in migrate::status(connection).await? {
//!     println!("{version} {name} {applied_at:?}");
//! }
//! let Report { from, to, applied } = migrate::up_within(connection, PATIENCE / 2).await?;
//! println!("from {from} to {to} by {applied:?}");
//! migrate::check(connection).await?; // as every worker does at its start
//!
//! print!("{}", migrate::sql(Some(from))); // for a database administrator who would rather see it first
//! # Ok(())
//! # }
//! ```

mod list;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row};
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result, SchemaMismatch};
use list::{ALL, FOUNDATION, Migration};

pub use list::sql;

/// The newest schema version this build knows.
pub const VERSION: i32 = ALL.len() as i32;

/// The least schema version this build works with: all of it, until a release is out that knew less.
pub const OLDEST: i32 = VERSION;

/// How long [`up`] tries to get a lock, its own or a table's, before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What [`up`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The version found; 0 when there was no schema.
    pub from: i32,
    /// The version left behind.
    pub to: i32,
    /// The names of the migrations applied by this call, in order.
    pub applied: Vec<String>,
}

/// One migration, known to this build or recorded in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub version: i32,
    /// Its file name without `.sql`, such as `0002_runs`.
    pub name: String,
    /// When it was applied; `None` when it is still to come.
    pub applied_at: Option<DateTime<Utc>>,
    /// The login that applied it.
    pub applied_by: Option<String>,
}

/// A row of `watchbell.migrations`.
struct Record {
    version: i32,
    name: String,
    checksum: String,
    min_build: i32,
    applied_at: DateTime<Utc>,
    applied_by: String,
}

impl FromRow<'_, PgRow> for Record {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            version: row.try_get("version")?,
            name: row.try_get("name")?,
            checksum: row.try_get("checksum")?,
            min_build: row.try_get("min_build")?,
            applied_at: row.try_get("applied_at")?,
            applied_by: row.try_get("applied_by")?,
        })
    }
}

/// Brings the schema to [`VERSION`]; does nothing when it is there or beyond.
///
/// Each migration is one transaction with its record, so a failure leaves the ones before it in place and
/// the next call goes on. Any number of processes may call this at once. The role must own the schema, or
/// be allowed to create it; it needs no superuser right and no extension.
///
/// # Errors
/// [`Error::Denied`] names the missing right and the GRANT; [`Error::Conflict`] a migration that was edited
/// after it was applied, one that failed, or a lock not gotten within [`PATIENCE`]; [`Error::Schema`] when
/// the database asks for a newer build.
pub async fn up(conn: &mut PgConnection) -> Result<Report> {
    up_within(conn, PATIENCE).await
}

/// As [`up`], but waits for locks no longer than `patience`.
///
/// # Errors
/// As [`up`].
pub async fn up_within(conn: &mut PgConnection, patience: Duration) -> Result<Report> {
    let deadline = Instant::now() + patience;
    may_migrate(conn).await?;
    lock(conn, deadline).await?;
    let result = apply_missing(conn, deadline).await;
    // A failure to unlock is a lost connection, and with it the lock is gone.
    let _ = sqlx::query("select pg_advisory_unlock(hashtextextended('watchbell:migrate', 0))").execute(conn).await;
    result
}

/// Every migration known to this build or recorded in the database, in order.
///
/// # Errors
/// [`Error::Database`] or [`Error::Denied`]; a missing schema is no error: nothing is applied then.
pub async fn status(conn: &mut PgConnection) -> Result<Vec<Step>> {
    let records = records(conn).await?.unwrap_or_default();
    let pending = ALL.iter().filter(|m| !records.iter().any(|r| r.version == m.version));
    let mut steps: Vec<Step> = pending
        .map(|m| Step { version: m.version, name: m.name.to_owned(), applied_at: None, applied_by: None })
        .collect();
    steps.extend(records.into_iter().map(|r| Step {
        version: r.version,
        name: r.name,
        applied_at: Some(r.applied_at),
        applied_by: Some(r.applied_by),
    }));
    steps.sort_by_key(|step| step.version);
    Ok(steps)
}

/// Whether this build works with the schema as it is.
///
/// # Errors
/// [`Error::Schema`] when the schema is missing, older than [`OLDEST`], or asks for a build newer than this;
/// [`Error::Denied`] when the role may not look.
pub async fn check(conn: &mut PgConnection) -> Result<()> {
    match records(conn).await? {
        None => Err(Error::Schema(SchemaMismatch::Missing)),
        Some(records) => fits(&records),
    }
}

fn fits(records: &[Record]) -> Result<()> {
    let asked = records.iter().map(|r| r.min_build).max().unwrap_or(0);
    let found = reached(records);
    if asked > VERSION {
        Err(Error::Schema(SchemaMismatch::TooNew { found: asked, known: VERSION }))
    } else if found < OLDEST {
        Err(Error::Schema(SchemaMismatch::TooOld { found, needed: OLDEST }))
    } else {
        Ok(())
    }
}

/// The version up to which nothing is missing. Records come in order.
fn reached(records: &[Record]) -> i32 {
    (1..).zip(records).take_while(|(n, r)| *n == r.version).last().map_or(0, |(n, _)| n)
}

/// The recorded migrations in order; `None` when there is no schema.
async fn records(conn: &mut PgConnection) -> Result<Option<Vec<Record>>> {
    let (exists, readable): (bool, Option<bool>) = sqlx::query_as(
        "select t.oid is not null, has_schema_privilege(n.oid, 'usage') and has_table_privilege(t.oid, 'select')
         from (values ('watchbell')) w (name)
         left join pg_catalog.pg_namespace n on n.nspname = w.name
         left join pg_catalog.pg_class t on t.relnamespace = n.oid and t.relname = 'migrations'",
    )
    .fetch_one(&mut *conn)
    .await?;
    if !exists {
        return Ok(None);
    }
    if readable == Some(false) {
        return Err(Error::Denied(
            "the role may not read watchbell.migrations; its owner can run: \
             GRANT USAGE ON SCHEMA watchbell TO ...; GRANT SELECT ON watchbell.migrations TO ..."
                .to_owned(),
        ));
    }
    let records = sqlx::query_as(
        "select version, name, checksum, min_build, applied_at, applied_by from watchbell.migrations order by version",
    )
    .fetch_all(conn)
    .await?;
    Ok(Some(records))
}

/// Refuses early, in one sentence, what would otherwise fail half way down a script.
async fn may_migrate(conn: &mut PgConnection) -> Result<()> {
    let (server, number, standby, role, database, schema_owner, owns, may_create): Facts = sqlx::query_as(
        "select current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery(),
                current_user::text, current_database()::text, pg_get_userbyid(n.nspowner)::text,
                coalesce(pg_has_role(n.nspowner, 'usage'), false),
                has_database_privilege(current_database(), 'create')
         from (values ('watchbell')) w (name) left join pg_catalog.pg_namespace n on n.nspname = w.name",
    )
    .fetch_one(conn)
    .await?;
    if number < 150_000 {
        return Err(Error::Conflict(format!("this server is PostgreSQL {server}; watchbell needs 15 or newer")));
    }
    if standby {
        return Err(Error::Standby { target: format!("the server of database \"{database}\"") });
    }
    match schema_owner {
        None if !may_create => Err(Error::Denied(format!(
            "role \"{role}\" may not create the schema watchbell in database \"{database}\"; \
             its owner can run: GRANT CREATE ON DATABASE \"{database}\" TO \"{role}\""
        ))),
        Some(owner) if !owns => Err(Error::Denied(format!(
            "role \"{role}\" does not own the schema watchbell, \"{owner}\" does; migrate as that role, \
             or let it run: GRANT \"{owner}\" TO \"{role}\""
        ))),
        _ => Ok(()),
    }
}

type Facts = (String, i32, bool, String, String, Option<String>, bool, bool);

async fn lock(conn: &mut PgConnection, deadline: Instant) -> Result<()> {
    loop {
        let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended('watchbell:migrate', 0))")
            .fetch_one(&mut *conn)
            .await?;
        if locked {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::Conflict(
                "another process is migrating this database and has not finished; wait for it, or end its session: \
                 SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
                    .to_owned(),
            ));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn apply_missing(conn: &mut PgConnection, deadline: Instant) -> Result<Report> {
    sqlx::raw_sql(FOUNDATION).execute(&mut *conn).await?;
    let records = records(conn).await?.unwrap_or_default();
    unchanged(&records)?;
    let asked = records.iter().map(|r| r.min_build).max().unwrap_or(0);
    if asked > VERSION {
        return Err(Error::Schema(SchemaMismatch::TooNew { found: asked, known: VERSION }));
    }
    let mut report = Report { from: reached(&records), to: reached(&records), applied: Vec::new() };
    for migration in ALL.iter().filter(|m| !records.iter().any(|r| r.version == m.version)) {
        apply(conn, migration, deadline).await?;
        tracing::info!(migration = migration.name, "applied");
        report.applied.push(migration.name.to_owned());
        report.to = report.to.max(migration.version);
    }
    Ok(report)
}

/// An applied migration is never edited: what the file says and what the database is would differ for ever.
fn unchanged(records: &[Record]) -> Result<()> {
    for migration in ALL {
        let Some(record) = records.iter().find(|r| r.version == migration.version) else { continue };
        if record.checksum != migration.checksum() {
            return Err(Error::Conflict(format!(
                "migration {} was applied to this database with another text (checksum {}, this build has {}); \
                 use the build that applied it, or restore its file",
                record.name,
                record.checksum,
                migration.checksum()
            )));
        }
    }
    Ok(())
}

/// Applies one migration, again and again while someone holds a lock on a table it changes.
async fn apply(conn: &mut PgConnection, migration: &Migration, deadline: Instant) -> Result<()> {
    loop {
        let Err(error) = sqlx::raw_sql(AssertSqlSafe(migration.script())).execute(&mut *conn).await else {
            return Ok(());
        };
        sqlx::raw_sql("rollback").execute(&mut *conn).await?;
        match error.as_database_error().map(|e| (e.code().unwrap_or_default(), e.message())) {
            Some((code, _)) if code == "55P03" && Instant::now() < deadline => {
                sleep(Duration::from_millis(fastrand::u64(100..500))).await;
            }
            Some((_, problem)) => {
                return Err(Error::Conflict(format!(
                    "migration {} failed and left nothing: {problem}",
                    migration.name
                )));
            }
            None => return Err(error.into()),
        }
    }
}

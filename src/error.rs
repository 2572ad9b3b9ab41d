//! One error type, each variant named for the caller's next step.

use std::fmt;

/// What can go wrong when talking to watchbell's database.
///
/// Messages are one sentence, lower case, and name the thing, the value and the limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that was given is not acceptable: mend it and call again.
    #[error("{field}: {problem}")]
    Invalid {
        /// The option, column or argument at fault.
        field: String,
        /// What is wrong with its value, and the limit.
        problem: String,
    },
    /// No connection: check the address, the server and the password.
    #[error("cannot connect to {target}: {problem}")]
    Unreachable {
        /// Where to, without the password.
        target: String,
        /// What the server or the network answered.
        problem: String,
    },
    /// The server is a read-only standby: connect to the primary.
    #[error("{target} is a standby and refuses writes; connect to the primary")]
    Standby {
        /// Which server, without the password.
        target: String,
    },
    /// The schema is missing, older or newer than this build: migrate, or upgrade.
    #[error("{0}")]
    Schema(SchemaMismatch),
    /// The thing named does not exist.
    #[error("{kind} \"{name}\" does not exist{hint}")]
    NotFound {
        /// What kind of thing.
        kind: &'static str,
        /// The name or id that was asked for.
        name: String,
        /// Empty, or where to look (starts with a separator).
        hint: String,
    },
    /// It exists already, or is in a state that does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// A queue has as many waiting runs as its `max_pending` allows: try again later.
    #[error("{0}")]
    Full(String),
    /// The role lacks a privilege.
    #[error("permission denied: {0}")]
    Denied(String),
    /// Any other answer of the database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A file, process or socket of this machine.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How the schema in the database differs from what this build works with.
///
/// ```no_run
/// # async fn example(connection: &mut sqlx::PgConnection) -> watchbell::Result<()> {
/// use watchbell::error::{Error, SchemaMismatch};
/// use watchbell::migrate;
///
/// match migrate::check(connection).await {
///     Err(Error::Schema(SchemaMismatch::Missing | SchemaMismatch::TooOld { .. })) => {
///         migrate::up(connection).await?;
///     }
///     Err(Error::Schema(SchemaMismatch::TooNew { known, .. })) => println!("this build knows version {known} only"),
///     other => other?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaMismatch {
    /// There is no schema `watchbell`.
    Missing,
    /// Older than this build needs.
    TooOld {
        /// The database's version.
        found: i32,
        /// The least version this build works with.
        needed: i32,
    },
    /// Newer than this build knows.
    TooNew {
        /// The least build version the database asks for.
        found: i32,
        /// The newest version this build knows.
        known: i32,
    },
}

impl fmt::Display for SchemaMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "schema watchbell does not exist in this database; run: watchbell migrate up"),
            Self::TooOld { found, needed } => {
                write!(
                    f,
                    "schema watchbell is at version {found}, this build needs {needed}; run: watchbell migrate up"
                )
            }
            Self::TooNew { found, known } => write!(
                f,
                "schema watchbell is at version {found}, this build knows versions up to {known}; use a newer watchbell"
            ),
        }
    }
}

/// The result of a call into watchbell.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An unacceptable value: `field` is at fault, `problem` says why and what the limit is.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }

    /// An operating system error while `doing` something.
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }
}

/// A lock, such as that of a whole table, was not to be had within the session's `lock_timeout`.
pub(crate) const LOCKED: &str = "55P03";

/// SQLSTATEs after which the same statement may simply be sent again on a sound connection.
const TRANSIENT: &[&str] = &[
    "40001", // serialization_failure
    "40P01", // deadlock_detected
    LOCKED,  // lock_not_available
    "57P01", // admin_shutdown
    "57P02", // crash_shutdown
    "57P03", // cannot_connect_now
    "57014", // query_canceled: our own statement_timeout
    "53300", // too_many_connections
    "53200", // out_of_memory
    "53100", // disk_full
    "0A000", // cached plan must not change result type
    "25006", // read_only_sql_transaction: the primary was demoted under us
];

/// Whether sending the same work again, on a fresh connection if need be, can succeed.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::error::is_transient;
///
/// let mut tries = 3;
/// loop {
///     match sqlx::query("update stock set left = left - 1").execute(&pool).await {
///         Err(error) if tries > 0 && is_transient(&error) => tries -= 1,
///         answer => break answer?,
///     }
/// };
/// # Ok(())
/// # }
/// ```
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(e) => e.code().is_some_and(|c| c.starts_with("08") || TRANSIENT.contains(&c.as_ref())),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// What the database said. The driver adds the line of the server's own source where it was raised, which tells a user
/// nothing.
pub(crate) fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(answer) => answer.message().to_owned(),
        other => other.to_string(),
    }
}

/// Whether the database said that a partition for the row does not exist (a missing day).
pub(crate) fn is_missing_day(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.code().as_deref() == Some("23514") && e.message().starts_with("no partition of relation"))
}

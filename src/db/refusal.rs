//! What the server's or the network's answer means for the caller's next step.

use sqlx::postgres::PgConnectOptions;

use super::DatabaseUrl;
use crate::error::{Error, Result, SchemaMismatch};

/// Names an answer of the database for the caller's next step, where there is a better name than
/// [`Error::Database`].
///
/// A missing privilege is [`Error::Denied`], a missing schema [`Error::Schema`], a violated uniqueness
/// [`Error::Conflict`]. Sentences that our own checks raise stay as they are.
pub fn refusal(error: sqlx::Error) -> Error {
    let sqlx::Error::Database(answer) = &error else { return Error::Database(error) };
    match answer.code().as_deref() {
        Some("42501") => {
            let said = answer.message().trim_start_matches("permission denied ");
            Error::Denied(said.trim_start_matches("for ").to_owned())
        }
        Some("3F000") => Error::Schema(SchemaMismatch::Missing),
        // A missing table, view or function of ours; a user's own is none of our business.
        Some("42P01" | "42883") if answer.message().contains("watchbell.") => Error::Schema(SchemaMismatch::Missing),
        Some("53400") if answer.message().starts_with("queue ") => Error::Full(answer.message().to_owned()),
        Some("23505") => Error::Conflict(answer.message().to_owned()),
        _ => Error::Database(error),
    }
}

/// A refused or failed connection, as one sentence that says what to do.
pub(super) fn of_connecting(target: &str, options: &PgConnectOptions, error: sqlx::Error) -> Error {
    let unreachable = |problem: String| Error::Unreachable { target: target.to_owned(), problem };
    let user = options.get_username();
    match error {
        sqlx::Error::Io(e) => unreachable(network_problem(&e)),
        sqlx::Error::Tls(e) => unreachable(format!("no encrypted connection ({e}); see sslmode in the database URL")),
        sqlx::Error::Configuration(e) => Error::invalid("database url", e.to_string()),
        sqlx::Error::Protocol(e) => unreachable(format!("this is not a PostgreSQL server ({e})")),
        sqlx::Error::Database(answer) => match answer.code().as_deref() {
            Some("28P01") => Error::Denied(format!("wrong password for user \"{user}\" at {target}")),
            Some("28000") => Error::Denied(format!("{} at {target}", answer.message())),
            Some("42501") => Error::Denied(format!("user \"{user}\" may not connect to {target}")),
            Some("3D000") => {
                let database = options.get_database().unwrap_or(user);
                unreachable(format!("database \"{database}\" does not exist; create it with: createdb {database}"))
            }
            _ => unreachable(answer.message().to_owned()),
        },
        error => Error::Database(error),
    }
}

fn network_problem(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    match error.kind() {
        ConnectionRefused => {
            "connection refused; start PostgreSQL there, or set --database-url or WATCHBELL_DATABASE_URL".to_owned()
        }
        NotFound => {
            "no such socket; start PostgreSQL there, or set --database-url or WATCHBELL_DATABASE_URL".to_owned()
        }
        _ => error.to_string(),
    }
}

/// One error for all hosts: the only one, else a wrong password, else the list of what each answered.
pub(super) fn of_all_hosts(url: &DatabaseUrl, mut refusals: Vec<Error>) -> Error {
    if refusals.len() == 1 {
        return refusals.remove(0);
    }
    if refusals.iter().all(|e| matches!(e, Error::Standby { .. })) {
        return Error::Standby { target: url.to_string() };
    }
    if let Some(denied) = refusals.iter().position(|e| matches!(e, Error::Denied(_))) {
        return refusals.swap_remove(denied);
    }
    let answers: Vec<String> = refusals
        .iter()
        .map(|e| match e {
            Error::Unreachable { target, problem } => format!("{target}: {problem}"),
            other => other.to_string(),
        })
        .collect();
    Error::Unreachable { target: url.to_string(), problem: format!("no host is a primary ({})", answers.join("; ")) }
}

/// Lets `?` on a statement's result name the answer for the caller's next step.
pub(crate) trait Named<T> {
    /// The value, or the error as [`refusal`] names it.
    fn named(self) -> Result<T>;
}

impl<T> Named<T> for Result<T, sqlx::Error> {
    fn named(self) -> Result<T> {
        self.map_err(refusal)
    }
}

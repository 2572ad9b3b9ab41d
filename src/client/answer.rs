//! What the functions of the schema answer, named for the caller's next step.

use sqlx::postgres::PgDatabaseError;

use crate::db::Named;
use crate::error::{Error, Result};

/// An unknown object is [`Error::NotFound`], one whose state does not allow it [`Error::Conflict`], a value out of
/// its limits [`Error::Invalid`].
pub(super) fn answer<T>(kind: &'static str, name: &str, result: Result<T, sqlx::Error>) -> Result<T> {
    let Err(sqlx::Error::Database(refusal)) = &result else { return result.named() };
    let message = refusal.message();
    let hint = refusal.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::hint);
    match refusal.code().as_deref() {
        Some("P0002") => {
            // one hint is for people in psql, the other for everyone
            let near = hint.filter(|hint| hint.starts_with("Did you mean")).map(|hint| format!("; d{}", &hint[1..]));
            Err(Error::NotFound { kind, name: name.to_owned(), hint: near.unwrap_or_default() })
        }
        Some("55000") => Err(Error::Conflict(message.to_owned())),
        Some("22023" | "23514") => {
            let subject = format!("{kind} \"{name}\"");
            let problem = message.strip_prefix(&subject).map_or(message, |rest| rest.trim_start_matches([':', ' ']));
            Err(Error::invalid(subject, problem))
        }
        _ => result.named(),
    }
}

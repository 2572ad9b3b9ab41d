//! Watches as their rows say.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Mode, Rate, Step, Watch};
use crate::{Error, Result};

const LIST: &str = include_str!("../sql/8_watches.sql");
const ONE: &str = include_str!("../sql/8_watch.sql");
const STEPS: &str = include_str!("../sql/8_watch_steps.sql");

/// One line of the list of all watches: enough to see whether it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its edits and its plan, as one mark: another mark means it is to be read anew.
    pub mark: (i64, Option<DateTime<Utc>>, bool, Option<DateTime<Utc>>),
    /// A worker is to plan it now.
    pub unplanned: bool,
    /// The word of a worker that is gone stands about a step of ours.
    pub orphaned: bool,
}

/// All watches, as a worker with these handlers has to know of them.
pub async fn list(conn: &mut PgConnection, handlers: &[String]) -> sqlx::Result<Vec<Listed>> {
    let rows = sqlx::query(LIST).bind(handlers).fetch_all(conn).await?;
    let line = |row: &PgRow| {
        let pause = (row.try_get("paused")?, row.try_get("paused_until")?);
        let mark = (row.try_get("version")?, row.try_get("planned_at")?, pause.0, pause.1);
        let (unplanned, orphaned) = (row.try_get("unplanned")?, row.try_get("orphaned")?);
        Ok(Listed { id: row.try_get("id")?, name: row.try_get("name")?, mark, unplanned, orphaned })
    };
    rows.iter().map(line).collect()
}

/// One watch with its steps; `None` when it is gone.
///
/// # Errors
/// [`Error::Invalid`] for a row that makes no sense, [`Error::Database`] for the rest.
pub async fn read(conn: &mut PgConnection, id: i64) -> Result<Option<Watch>> {
    let Some(row) = sqlx::query(ONE).bind(id).fetch_optional(&mut *conn).await? else { return Ok(None) };
    let steps = sqlx::query(STEPS).bind(id).fetch_all(conn).await.map_err(unreadable)?;
    let steps = steps.iter().map(step).collect::<Result<Vec<Step>>>()?;
    let paused_for: Option<i64> = row.try_get("paused_ms")?;
    let watch = Watch {
        id,
        name: row.try_get("name")?,
        table_name: row.try_get("table_name")?,
        key_columns: row.try_get("key_columns")?,
        status_column: row.try_get("status_column")?,
        since_column: row.try_get("since_column")?,
        poll_interval: duration(row.try_get("poll_ms")?).max(Duration::from_millis(10)),
        version: row.try_get("version")?,
        paused: row.try_get("paused")?,
        paused_for: paused_for.map(duration),
        earlier: row.try_get("plan")?,
        steps,
    };
    check(&watch)?;
    Ok(Some(watch))
}

fn step(row: &PgRow) -> Result<Step> {
    let from: String = row.try_get("from_state")?;
    let handler: Option<String> = row.try_get("handler")?;
    let handler = handler.ok_or_else(|| Error::invalid("handler", format!("the step from \"{from}\" names none")))?;
    let retry: Option<String> = row.try_get("retry")?;
    let retry = retry.as_deref().filter(|text| *text != "null").map(str::parse).transpose();
    let retry = retry.map_err(|e: crate::retry::RetryError| Error::invalid("retry", e.to_string()))?;
    let timeout: Option<i64> = row.try_get("timeout_ms")?;
    let rate: Option<i64> = row.try_get("rate_limit")?;
    let period = duration(row.try_get("rate_ms")?).max(Duration::from_millis(1));
    let mode: String = row.try_get("mode")?;
    Ok(Step {
        via: row.try_get("via_state")?,
        to: row.try_get("to_state")?,
        error: row.try_get("error_state")?,
        handler,
        payload: row.try_get("payload")?,
        retry: retry.unwrap_or_default(),
        max_attempts: row.try_get::<i16, _>("max_attempts")?.max(1),
        timeout: timeout.map(duration),
        order: row.try_get("order_by")?,
        filter: row.try_get("filter")?,
        batch: row.try_get::<i64, _>("batch")?.clamp(1, 1000),
        rate: rate.map(|rows| Rate { rows: rows.max(1), period }),
        max_running: row.try_get::<Option<i64>, _>("max_running")?.map(|most| most.max(1)),
        mode: Mode::read(&mode)?,
        from,
    })
}

/// What no row of the catalog is needed for.
fn check(watch: &Watch) -> Result<()> {
    if watch.steps.is_empty() {
        return Err(Error::invalid("transitions", "the list is empty"));
    }
    for (n, step) in watch.steps.iter().enumerate() {
        let from = &step.from;
        if watch.steps[..n].iter().any(|other| other.from == *from) {
            return Err(Error::invalid("transitions", format!("two steps begin at \"{from}\"")));
        }
        for (field, state) in [("to", &step.to), ("error", &step.error)] {
            if state == from {
                return Err(Error::invalid(
                    field,
                    format!("\"{state}\" is where the step begins: its rows would never end"),
                ));
            }
        }
        if step.via.as_ref() == Some(from) || step.via.as_ref().is_some_and(|via| watch.step(via).is_some()) {
            let via = step.via.as_deref().unwrap_or_default();
            return Err(Error::invalid("via", format!("a step begins at \"{via}\": its rows would be taken twice")));
        }
    }
    Ok(())
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.max(0).unsigned_abs())
}

/// A transition with a value of the wrong type is the row's fault, not the database's.
fn unreadable(error: sqlx::Error) -> Error {
    match error.as_database_error() {
        Some(answer) if answer.code().is_some_and(|code| code.starts_with("22")) => {
            Error::invalid("transitions", answer.message().to_owned())
        }
        _ => error.into(),
    }
}

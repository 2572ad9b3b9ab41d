//! Plan: what a watch asks for against what is in the catalog.
//!
//! **In** a watch that is new, was edited, or was planned an hour ago, or of whose table another was changed; an invalid one after a minute, since the missing
//! table may have come. **Out** its status `normal` or `invalid`, with the reason, its plan, and the next time.
//! **Lock** the watch's row for one statement, passed over where a person holds it. **Crash** nothing was written:
//! another worker plans it.

use sqlx::PgConnection;

use crate::{
    Error, Result,
    handler::Registry,
    watch::{Plan, read},
};

const PLANNED: &str = include_str!("../sql/8_watch_planned.sql");
const REPLAN: &str = include_str!("../sql/8_watch_replan.sql");
const RESUME: &str = include_str!("../sql/8_watch_resume.sql");
const RIVAL: &str = include_str!("../sql/8_watch_rival.sql");

/// A watch as this worker can work it.
#[derive(Debug)]
pub enum Found {
    /// It can.
    Planned(Box<Plan>),
    /// It cannot, for this reason.
    Invalid(String),
    /// It is not there any more.
    Gone,
}

/// Plans a watch with these handlers. Writes what came of it where that is asked for, or where more is known now.
pub async fn plan(conn: &mut PgConnection, id: i64, registry: &Registry, write: bool) -> Result<Found> {
    let mut version = None;
    let found = match read::read(&mut *conn, id).await {
        Ok(None) => return Ok(Found::Gone),
        Ok(Some(watch)) => {
            version = Some(watch.version);
            match alone(&mut *conn, id).await {
                Ok(()) => Plan::of(&mut *conn, watch, registry).await,
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    let found = match found {
        Ok(plan) => Found::Planned(Box::new(plan)),
        Err(error @ Error::Invalid { .. }) => Found::Invalid(error.to_string()),
        Err(error) => return Err(error),
    };
    let (error, plan) = match &found {
        Found::Planned(plan) if write || plan.knows_more() => (None, Some(plan.json())),
        Found::Invalid(reason) if write => (Some(reason), None),
        _ => return Ok(found),
    };
    if version.is_none() {
        let read = sqlx::query_scalar("select w.version from watchbell.watches w where w.id = $1");
        version = read.bind(id).fetch_optional(&mut *conn).await?;
    }
    sqlx::query(PLANNED).bind(id).bind(version).bind(error).bind(plan).execute(conn).await?;
    Ok(found)
}

/// Refuses what an earlier watch does already: in leased mode both would work on the same row.
async fn alone(conn: &mut PgConnection, id: i64) -> Result<()> {
    let rival: Option<(String, String)> = sqlx::query_as(RIVAL).bind(id).fetch_optional(conn).await?;
    let Some((name, state)) = rival else { return Ok(()) };
    let problem = format!(
        "watch \"{name}\" takes the same rows, those in state \"{state}\"; delete or pause one of them, or give each a filter"
    );
    Err(Error::invalid("table_name", problem))
}

/// The table is not what it was: somebody is to plan it anew.
pub async fn replan(conn: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query(REPLAN).bind(id).execute(conn).await.map(drop)
}

/// Ends a pause that has run out.
pub async fn resume(conn: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query(RESUME).bind(id).execute(conn).await.map(drop)
}

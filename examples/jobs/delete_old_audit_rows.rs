//! Deletes audit rows that are older than so many days, 90 unless the schedule's payload says otherwise; 0 is never.
//!
//! A day is 24 hours, whatever the session's time zone and its clock changes. A row exactly that old stays until the
//! next time. At most 10,000 rows go in one statement, so that no delete holds up a large table for long.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use watchbell::client::NewSchedule;
use watchbell::worker::Builder;
use watchbell::{Context, HandlerResult, State, fixed_delay, hours, minutes};

use super::Form;

/// Its table. The index leads to the oldest rows.
pub(crate) const SCHEMA: &str = "
    create table if not exists audit (
        id bigint generated always as identity primary key,
        at timestamptz not null default now(),
        what text not null
    );
    create index if not exists audit_at on audit (at);";

/// The rows of one statement; what else is old goes next.
const ROWS_MAX: u64 = 10_000;

/// Its argument is the number of days.
pub(crate) const STATEMENT: &str = "
    delete from audit where id in (
        select id from audit
        where $1::integer > 0 and at < now() - make_interval(hours => 24 * $1::integer)
        order by at limit 10000 for update skip locked)";

/// The schedule's payload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// How old a row may become.
    pub(crate) days: i32,
}

/// An hour after it ended it starts again; as a statement, which deletes one batch, a minute after.
pub(crate) fn add(worker: Builder, form: Form) -> Builder {
    let delay = match form {
        Form::Rust => hours(1),
        Form::Sql => minutes(1),
    };
    let when = fixed_delay(delay).description("audit rows are kept for 90 days").owner("platform");
    match form {
        Form::Rust => worker.schedule("delete_old_audit_rows", when.payload(&Settings { days: 90 }), run),
        Form::Sql => worker.declare(NewSchedule::new(
            "delete_old_audit_rows",
            when.payload(&json!({"statement": STATEMENT, "args": [90]})),
            "sql",
        )),
    }
}

/// In steps of their own: one that was interrupted goes on where it stood.
async fn run(State(pool): State<PgPool>, ctx: Context, settings: Settings) -> HandlerResult {
    let mut connection = pool.acquire().await?;
    let mut deleted = 0;
    while ctx.stop_reason().is_none() {
        let rows = delete(&mut connection, settings.days).await?;
        deleted += rows;
        if rows < ROWS_MAX {
            break;
        }
    }
    println!("{deleted} audit rows deleted");
    Ok(())
}

/// One statement; how many rows it deleted.
pub(crate) async fn delete(connection: &mut PgConnection, days: i32) -> sqlx::Result<u64> {
    Ok(sqlx::query(STATEMENT).bind(days).execute(connection).await?.rows_affected())
}

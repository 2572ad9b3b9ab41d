//! Disables users who have not logged in for so many days, 180 unless the schedule's payload says otherwise; 0 is never.
//!
//! One who never logged in counts from the day the account was made. A day is 24 hours. The users and the end of the
//! run are one commit, so each is disabled, and would be written to, exactly once.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use watchbell::client::NewSchedule;
use watchbell::worker::Builder;
use watchbell::{HandlerResult, Tx, fixed_delay, hours};

use super::Form;

/// Its table.
pub(crate) const SCHEMA: &str = "
    create table if not exists users (
        id bigint generated always as identity primary key,
        name text not null,
        created_at timestamptz not null default now(),
        last_login_at timestamptz,
        disabled_at timestamptz
    );
    create index if not exists users_idle on users (coalesce(last_login_at, created_at)) where disabled_at is null;";

/// Its argument is the number of days.
pub(crate) const STATEMENT: &str = "
    update users set disabled_at = now()
    where disabled_at is null and $1::integer > 0
      and coalesce(last_login_at, created_at) < now() - make_interval(hours => 24 * $1::integer)";

/// The schedule's payload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// For how long one may stay away.
    pub(crate) days: i32,
}

/// Six hours after it ended it starts again.
pub(crate) fn add(worker: Builder, form: Form) -> Builder {
    let when = fixed_delay(hours(6)).description("who stays away for half a year is disabled").owner("accounts");
    match form {
        Form::Rust => worker.schedule_transactional("disable_idle_users", when.payload(&Settings { days: 180 }), run),
        Form::Sql => worker.declare(NewSchedule::new(
            "disable_idle_users",
            when.payload(&json!({"statement": STATEMENT, "args": [180]})),
            "sql",
        )),
    }
}

async fn run(mut tx: Tx, settings: Settings) -> HandlerResult {
    let users = disable(&mut tx, settings.days).await?;
    println!("{users} users disabled");
    Ok(())
}

/// How many were disabled.
pub(crate) async fn disable(connection: &mut PgConnection, days: i32) -> sqlx::Result<u64> {
    Ok(sqlx::query(STATEMENT).bind(days).execute(connection).await?.rows_affected())
}

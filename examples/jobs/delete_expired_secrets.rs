//! Deletes secrets whose time is over, within a minute.
//!
//! One without `expires_at` stays for ever. The moment it names is the first at which the secret is void.

use serde_json::json;
use sqlx::PgConnection;
use watchbell::client::NewSchedule;
use watchbell::worker::Builder;
use watchbell::{HandlerResult, Tx, fixed_delay, minutes};

use super::Form;

/// Its table.
pub(crate) const SCHEMA: &str = "
    create table if not exists secrets (
        id bigint generated always as identity primary key,
        name text not null,
        value bytea not null,
        expires_at timestamptz
    );
    create index if not exists secrets_expires_at on secrets (expires_at);";

/// It has no argument.
pub(crate) const STATEMENT: &str = "delete from secrets where expires_at <= now()";

/// A minute after it ended it starts again.
pub(crate) fn add(worker: Builder, form: Form) -> Builder {
    let when = fixed_delay(minutes(1)).description("void secrets do not lie about").owner("security");
    match form {
        Form::Rust => worker.schedule_transactional("delete_expired_secrets", when, run),
        Form::Sql => {
            let when = when.payload(&json!({"statement": STATEMENT}));
            worker.declare(NewSchedule::new("delete_expired_secrets", when, "sql"))
        }
    }
}

async fn run(mut tx: Tx) -> HandlerResult {
    let secrets = delete(&mut tx).await?;
    println!("{secrets} secrets deleted");
    Ok(())
}

/// How many were deleted.
pub(crate) async fn delete(connection: &mut PgConnection) -> sqlx::Result<u64> {
    Ok(sqlx::query(STATEMENT).execute(connection).await?.rows_affected())
}

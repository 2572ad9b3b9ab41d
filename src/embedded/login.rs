//! The login that everything but set-up uses: no superuser, and it owns its database.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::Result;

/// The role, and the database it owns.
pub(super) const NAME: &str = "watchbell";

/// Makes the login and its database where they are missing: each step is looked at by itself, so that
/// a first start that was cut short is mended by the next one.
pub(super) async fn prepare(admin_url: &str, password: &str, is_new: bool) -> Result<()> {
    let options: PgConnectOptions = admin_url.parse()?;
    let mut admin: PgConnection = options.connect().await?;
    let has_role: bool = sqlx::query_scalar("select exists (select from pg_catalog.pg_roles where rolname = $1)")
        .bind(NAME)
        .fetch_one(&mut admin)
        .await?;
    // The password is hexadecimal and the name a constant: neither needs quoting.
    if !has_role {
        let create = format!("create role {NAME} login password '{password}'");
        sqlx::query(AssertSqlSafe(create)).execute(&mut admin).await?;
        // "$user" would find the schema watchbell first, and put the user's own tables among ours.
        let path = format!("alter role {NAME} set search_path = public");
        sqlx::query(AssertSqlSafe(path)).execute(&mut admin).await?;
    } else if is_new {
        let alter = format!("alter role {NAME} password '{password}'");
        sqlx::query(AssertSqlSafe(alter)).execute(&mut admin).await?;
    }
    let has_database: bool =
        sqlx::query_scalar("select exists (select from pg_catalog.pg_database where datname = $1)")
            .bind(NAME)
            .fetch_one(&mut admin)
            .await?;
    if !has_database {
        let create = format!("create database {NAME} owner {NAME}");
        sqlx::query(AssertSqlSafe(create)).execute(&mut admin).await?;
    }
    admin.close().await?;
    Ok(())
}

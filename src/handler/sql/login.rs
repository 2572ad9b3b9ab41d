//! Which logins may execute what payloads ask for.

use sqlx::{PgPool, postgres::PgConnectOptions};

use super::Sql;
use crate::{Error, Result};

/// What a login says about itself.
type Facts = (String, bool, bool, String);

/// Who it is, whether it is a superuser, whether it may end runs, and which database of which server start
/// this is: the same for two logins only if they are connected to the same database.
const FACTS: &str = "select session_user::text, r.rolsuper,
        case when has_schema_privilege('watchbell', 'usage')
             then has_function_privilege('watchbell.finish_run(bigint, bigint, integer)', 'execute')
             else false end,
        format('%s of %s', current_database(), pg_postmaster_start_time())
     from pg_catalog.pg_roles r where r.rolname = session_user";

/// Refuses logins that must not, or could not, execute payloads' statements.
///
/// # Errors
/// [`Error::Denied`] for a superuser, unless `allow_superuser`, and for a login that may not end runs;
/// [`Error::Invalid`] for one that is connected to another database; [`Error::Unreachable`].
pub async fn check(sql: &Sql, allow_superuser: bool) -> Result<()> {
    let own = facts(&sql.own).await?;
    refuse_superuser("the worker's own login", &own, allow_superuser)?;
    for (name, pool) in &sql.logins {
        let login = facts(pool).await?;
        refuse_superuser(&format!("--sql-login {name}"), &login, allow_superuser)?;
        if login.3 != own.3 {
            let problem =
                format!("{name} is connected to another database than the worker, where no run could be ended");
            return Err(Error::invalid("--sql-login", problem));
        }
        if !login.2 {
            let role = login.0;
            return Err(Error::Denied(format!(
                "--sql-login {name}: role \"{role}\" may not end runs; the schema's owner can run: \
                 GRANT USAGE ON SCHEMA watchbell TO \"{role}\"; \
                 GRANT EXECUTE ON FUNCTION watchbell.finish_run TO \"{role}\""
            )));
        }
    }
    Ok(())
}

fn refuse_superuser(which: &str, (role, is_superuser, ..): &Facts, allow: bool) -> Result<()> {
    if *is_superuser && !allow {
        return Err(Error::Denied(format!(
            "{which}: role \"{role}\" is a superuser, for whom a payload could do anything on the database's host; \
             use another login, or set --allow-superuser-sql"
        )));
    }
    Ok(())
}

async fn facts(pool: &PgPool) -> Result<Facts> {
    sqlx::query_as(FACTS).fetch_one(pool).await.map_err(|error| match error {
        error @ sqlx::Error::Database(_) => crate::db::refusal(error),
        error => Error::Unreachable { target: address(&pool.connect_options()), problem: error.to_string() },
    })
}

fn address(options: &PgConnectOptions) -> String {
    format!("{}:{}", options.get_host(), options.get_port())
}

//! The handler `sql`: one statement, and the run's end in the same transaction.
//!
//! Its payload is `{"statement": "...", "args": [...], "as": "name"}`; only `statement` is required.
//!
//! **Arguments** are bound as text, so the statement casts what is not text: `where id = $1::bigint`. A
//! string is bound as it is, `null` as NULL, any other value as its JSON text.
//!
//! **`as`** picks a login by the name that the worker's configuration gave it. A role that is only *set* is
//! no boundary (a `DO` block sets it back), a login is. The statement then runs on that login's connection,
//! and `watchbell.finish_run` ends the run in its transaction.
//!
//! **What fails** is rolled back. Another attempt could not help after a payload that does not fit, a missing
//! privilege, a syntax error, an unknown table or column (SQLSTATE class 42 and its kin): these are fatal. All
//! else, constraints and bad values included, is tried again by the run's retry policy, because the data may
//! have changed by then.
//!
//! **Time** is the run's `timeout`, as the server's `statement_timeout` too. A run that is cancelled has its
//! statement cancelled in the server.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
//! use watchbell::Worker;
//! use watchbell::handler::sql::{self, Sql};
//!
//! # let reports = pool.clone();
//! let sql = Sql::new(pool.clone()).login("reports", reports); // `"as": "reports"` in a payload
//! sql::check(&sql, false).await?; // refuses a superuser's login
//! Worker::builder(pool).transactional("sql", sql).run(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! **In a watch** the statement sees the rows that were taken, whole, as the relation `claimed`, and is part of the
//! transaction that moves them on: `insert into audit select id from claimed`.

mod claimed;
mod login;
mod statement;

use std::{collections::BTreeMap, pin::Pin};

use sqlx::{PgConnection, PgPool};

use super::{
    Context, HandlerError, HandlerResult, Outcome, StatementOver, TransactionalHandler, Tx, extract::payload, fatal,
};
use statement::{Payload, Statement};

pub use login::check;

/// The handler `sql`. Whether it may run at all is for the worker's configuration to say: call [`check`]
/// first.
#[derive(Debug, Clone)]
pub struct Sql {
    /// Of the worker's own login, to cancel a statement with.
    own: PgPool,
    logins: BTreeMap<String, PgPool>,
}

impl Sql {
    /// With the pool that the worker's handlers use, and no other login.
    pub fn new(own: PgPool) -> Self {
        Self { own, logins: BTreeMap::new() }
    }

    /// Lets payloads pick this login, connected to the same database, by this name.
    #[must_use]
    pub fn login(mut self, name: impl Into<String>, pool: PgPool) -> Self {
        self.logins.insert(name.into(), pool);
        self
    }

    async fn run(&self, mut tx: Tx, ctx: &Context) -> HandlerResult<Outcome> {
        let payload: Payload = payload(ctx)?;
        if let Some(taken) = ctx.taken() {
            let over = claimed::over(&payload, &taken.claimed).map_err(fatal)?;
            let statement = Statement::of(&payload).map_err(fatal)?.over(&over.text, &taken.keys);
            execute(&mut tx, &statement, &self.own, ctx).await?;
            return Ok(Outcome::Done);
        }
        let statement = Statement::of(&payload).map_err(fatal)?;
        let Some(name) = &payload.login else {
            execute(&mut tx, &statement, &self.own, ctx).await?;
            return Ok(Outcome::Done);
        };
        // The worker's own transaction stays open meanwhile; it has done nothing and holds no snapshot.
        let pool = self.logins.get(name).ok_or_else(|| fatal(self.unknown(name)))?;
        elsewhere(pool, &statement, ctx).await
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.logins.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("\"as\": this worker's configuration has no login \"{name}\" (it has: {known}); see --sql-login")
    }
}

impl TransactionalHandler for Sql {
    fn call(&self, tx: Tx, ctx: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(async move { self.run(tx, &ctx).await.unwrap_or_else(Outcome::Failed) })
    }

    fn takes_batch(&self) -> bool {
        true
    }

    fn statement_over(
        &self,
        payload: &str,
        claimed: &dyn Fn(usize) -> String,
    ) -> Option<Result<StatementOver, String>> {
        let read = serde_json::from_str(payload).map_err(|e| e.to_string());
        Some(read.and_then(|payload| claimed::over(&payload, claimed)))
    }
}

/// Statement and end in one transaction of another login. If the answer to the commit is lost, the attempt
/// is reported as failed; should it have been committed, that report is superseded.
async fn elsewhere(pool: &PgPool, statement: &Statement<'_>, ctx: &Context) -> HandlerResult<Outcome> {
    let mut transaction = pool.begin().await?;
    let limit_ms = ctx.remaining().map_or(0, |left| left.as_millis().max(1));
    sqlx::query("select set_config('statement_timeout', $1, true)")
        .bind(format!("{limit_ms}ms"))
        .execute(&mut *transaction)
        .await?;
    execute(&mut transaction, statement, pool, ctx).await?;
    let is_ours: bool = sqlx::query_scalar("select watchbell.finish_run($1, $2, $3)")
        .bind(ctx.run_id().0)
        .bind(ctx.fence())
        .bind(ctx.worker())
        .fetch_one(&mut *transaction)
        .await?;
    if is_ours {
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    Ok(Outcome::Recorded(is_ours))
}

/// Executes the statement; when the run is asked to stop, cancels it in the server.
async fn execute(
    connection: &mut PgConnection,
    statement: &Statement<'_>,
    pool: &PgPool,
    ctx: &Context,
) -> HandlerResult {
    let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *connection).await?;
    let running = statement.execute(connection);
    tokio::pin!(running);
    let done = tokio::select! {
        done = &mut running => done,
        () = ctx.cancelled() => {
            let cancelled = sqlx::query("select pg_cancel_backend($1)").bind(backend).execute(pool).await;
            if let Err(error) = cancelled {
                tracing::warn!(run = %ctx.run_id(), %error, "the run's statement could not be cancelled");
            }
            running.await
        }
    };
    let rows = done.map_err(verdict)?;
    ctx.log(if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") });
    Ok(())
}

/// What the server's answer means for the run.
fn verdict(error: sqlx::Error) -> HandlerError {
    let Some(answer) = error.as_database_error().and_then(|e| e.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
    else {
        return error.into();
    };
    let (code, message) = (answer.code(), answer.message());
    if code == "42601" && message.contains("multiple commands") {
        return fatal(
            "one run executes one statement, and there are several in this one; use one run for each, or a DO block",
        );
    }
    let hint = answer.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    let text = format!("{message}{hint} [{code}]");
    // Whatever another attempt would meet again: 08P01 is a wrong number of arguments, 0A a feature that is
    // missing, 25001 a statement that allows no transaction, 2D a COMMIT in a procedure, 3D and 3F a missing
    // database or schema, 42 a syntax error, an unknown object or a missing privilege.
    let is_fatal = matches!(code, "08P01" | "25001") || ["0A", "2D", "3D", "3F", "42"].contains(&&code[..2]);
    if is_fatal { fatal(text) } else { text.into() }
}

//! A connection of the engine's own: held, bounded, and made again when it breaks.

use std::{future::Future, io, time::Duration};

use sqlx::{
    ConnectOptions, PgConnection,
    postgres::{PgConnectOptions, PgPool},
};
use tokio::time;

/// No statement of the engine waits longer than this for its answer; then the connection is closed hard.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// What every session of the engine sets.
pub const SETTINGS: [(&str, &str); 16] = [
    // ours are a handful of statements, each with the one plan that its index was made for
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("lock_timeout", "5s"),
    ("statement_timeout", "15s"),
    ("idle_in_transaction_session_timeout", "15s"),
    // a statement whose client is gone ends, and frees its row locks
    ("client_connection_check_interval", "500ms"),
    ("tcp_user_timeout", "10s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
];

/// A statement through the pool costs two more round trips than on a held connection (228 against 97 µs),
/// so the engine's loops hold one each.
#[derive(Debug)]
pub(super) struct Session {
    pool: PgPool,
    name: String,
    connection: Option<PgConnection>,
    deadline: Duration,
    lock_timeout: &'static str,
}

impl Session {
    /// Like the pool's connections, but named, and with settings that fit the engine's few statements.
    pub(super) fn of(pool: &PgPool, task: &str) -> Self {
        Self {
            pool: pool.clone(),
            name: format!("watchbell {task}"),
            connection: None,
            deadline: DEADLINE,
            lock_timeout: "5s",
        }
    }

    /// Read anew at each connect: the pool's options follow a primary that moves to another host.
    fn options(&self) -> PgConnectOptions {
        let options = (*self.pool.connect_options()).clone().application_name(&self.name).options(SETTINGS);
        let options = options.options([("lock_timeout", self.lock_timeout)]);
        options.log_statements(tracing::log::LevelFilter::Off)
    }

    /// With another bound on every statement.
    pub(super) fn bounded(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// For statements over people's own tables, of which somebody may have locked one: the others shall not wait for it.
    pub(super) fn passing_over(mut self) -> Self {
        self.lock_timeout = "500ms";
        self
    }

    /// Whether there is a connection that was sound when it was last used.
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// The connection, made anew if need be.
    pub(super) async fn connection(&mut self) -> sqlx::Result<&mut PgConnection> {
        if self.connection.is_none() {
            self.connection = Some(within(self.deadline, self.options().connect()).await?);
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            None => Err(sqlx::Error::WorkerCrashed),
        }
    }

    /// Passes a result on; closes the connection hard after any error that is not the database's answer to
    /// a statement, since nobody knows in what state it is.
    pub(super) fn settle<T>(&mut self, result: sqlx::Result<T>) -> sqlx::Result<T> {
        if let Err(error) = &result {
            crate::metrics::db_error(error);
            if !is_plain_answer(error) {
                self.connection = None;
            }
        }
        result
    }

    /// How long a statement may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Closes the connection in good order.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = time::timeout(Duration::from_secs(1), sqlx::Connection::close(connection)).await;
        }
    }
}

/// Gives up on `work` after `deadline`. What it was doing goes on in the server until its own timeouts, so
/// the connection must be closed.
pub(super) async fn within<T>(deadline: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    time::timeout(deadline, work).await.unwrap_or_else(|_| {
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {deadline:?}"))))
    })
}

/// An error that the server itself gave for one statement, after which the session is as it was.
fn is_plain_answer(error: &sqlx::Error) -> bool {
    match error {
        // 25P02, 40001 and the like: a transaction that was open is rolled back by its drop guard, but only
        // queued; start afresh. 0A000: prepared statements are stale.
        sqlx::Error::Database(e) => {
            !matches!(e.code().as_deref(), None | Some("0A000" | "25006" | "25P02" | "57P01" | "57P02" | "57P03"))
        }
        sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => true,
        _ => false,
    }
}

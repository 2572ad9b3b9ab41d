//! The set time of a database, and sessions that live at it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{PgPool, Postgres, pool::PoolOptions};

/// The set time of one database, the same for every engine and pool of this process; none before the first engine.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<Mutex<Option<DateTime<Utc>>>>);

impl Clock {
    /// The clock of the database that these options lead to.
    pub(super) fn of(options: &PgConnectOptions) -> Self {
        static CLOCKS: LazyLock<Mutex<HashMap<String, Clock>>> = LazyLock::new(Mutex::default);
        // a Unix socket and a port of the same server have clocks of their own
        let host = options.get_socket().map_or(options.get_host().to_owned(), |path| path.display().to_string());
        let database = options.get_database().unwrap_or(options.get_username());
        let key = format!("{host}:{}/{database}", options.get_port());
        CLOCKS.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }

    pub(super) fn now(&self) -> Option<DateTime<Utc>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Puts one session at the set time, or at the database's own before there is one.
    pub(super) async fn show(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let now = self.now().map(|now| now.to_rfc3339()).unwrap_or_default();
        let set = sqlx::query("select set_config('watchbell.now', $1, false)").bind(now);
        set.execute(connection).await.map(drop)
    }
}

/// A pool like this one whose sessions live at the set time of the [`Engine`](super::Engine) on its database.
///
/// Enqueue and schedule through it, and give it to handlers that do, so that delays are counted from the
/// engine's time. A session takes the time over when it leaves the pool: an open transaction keeps the time
/// that it began with. The engine and this pool must name the database alike (host, port and name). Hooks
/// of the pool (`after_connect`, `before_acquire`) are replaced, everything else is as it was.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use std::time::Duration;
/// use watchbell::{Registry, client::NewRun, testing};
///
/// let mut engine = testing::Engine::new(pool.clone(), Registry::new()).await?;
/// engine.advance(Duration::from_secs(3600)).await?;
/// let pool = testing::at_set_time(&pool);
/// NewRun::new("mail").delay(Duration::from_secs(60)).insert(&pool).await?; // due in an hour and a minute
/// # Ok(())
/// # }
/// ```
pub fn at_set_time(pool: &PgPool) -> PgPool {
    with_options(pool.options().clone(), (*pool.connect_options()).clone())
}

/// A pool at the set time with these options.
pub(super) fn with_options(options: PoolOptions<Postgres>, connect: PgConnectOptions) -> PgPool {
    let clock = Clock::of(&connect);
    let new = clock.clone();
    options
        .after_connect(move |connection, _| {
            let clock = new.clone();
            async move { clock.show(connection).await }.boxed()
        })
        .before_acquire(move |connection, _| {
            let clock = clock.clone();
            async move { clock.show(connection).await.map(|()| true) }.boxed()
        })
        .connect_lazy_with(connect)
}

//! The listener: NOTIFY is a hint, polling stays the truth.

use std::{sync::Arc, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time;

use super::shared::{Phase, Shared};

/// The one channel; the payload is only the name of a table.
const CHANNEL: &str = "watchbell";

/// A server that restarts can leave a listener silent: after this long without a word it is asked.
const PING: Duration = Duration::from_secs(20);

/// Listens until the worker is over. The connection is always drained: one that stops reading would hold
/// back the whole database's notifications.
pub(super) async fn listen(shared: Arc<Shared>, pool: PgPool) {
    tokio::select! {
        () = listen_on(&shared, &pool) => {}
        () = shared.at_least(Phase::Over) => {}
    }
}

async fn listen_on(shared: &Shared, pool: &PgPool) {
    let mut pause = Duration::from_millis(100);
    loop {
        match heed(shared, pool).await {
            Ok(()) => pause = Duration::from_millis(100),
            Err(error) => {
                tracing::debug!(%error, "listening failed; polling goes on");
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
        // whatever was said meanwhile was not heard
        shared.ask(&shared.duties.sweep);
        time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
    }
}

async fn heed(shared: &Shared, pool: &PgPool) -> sqlx::Result<()> {
    // made anew each time: the pool's options follow a primary that moves to another host
    let options = (*pool.connect_options()).clone().application_name("watchbell listen");
    let own = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&own).await?;
    listener.listen(CHANNEL).await?;
    shared.ask(&shared.duties.sweep);
    loop {
        match time::timeout(PING, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => match notification.payload() {
                "schedules" => shared.ask(&shared.duties.fire),
                "watches" => shared.watching.notify_one(),
                _ => shared.ask(&shared.duties.sweep),
            },
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                time::timeout(Duration::from_secs(5), sqlx::query("select 1").execute(&mut listener))
                    .await
                    .unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
            }
        }
    }
}

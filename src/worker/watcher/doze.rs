//! Doze: the steps of a watch that rest ask those who change its table to wake them.
//!
//! **In** a step whose look brought nothing. **Out** a mark by which the trigger of `wake_watch` sends a NOTIFY.
//! **Lock** the table's row of `watch_sleepers`, for one statement. **Crash** the mark runs out within 20 seconds.
//!
//! Without that trigger the mark is read by nobody. It is written at most every ten seconds for each watch and worker.

use std::time::Duration;

use sqlx::postgres::types::Oid;
use tokio::{sync::Mutex, time::Instant};

use super::{super::session::within, step::Step};

const SLEEP: &str = include_str!("../../sql/8_watch_sleep.sql");

/// How often the wish is renewed.
pub(super) const AGAIN: Duration = Duration::from_secs(10);
/// How long it is heard at least, from before it was sent.
const HEARD: Duration = Duration::from_secs(12);
/// How long sending it may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// What the steps of one watch in this worker asked for.
#[derive(Debug, Default)]
pub(super) struct Doze(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    /// Before the wish was last sent.
    at: Option<Instant>,
    /// How often it began to be heard.
    times: u64,
}

impl Doze {
    /// Sees to it that the wish is heard, and answers how often it began to be.
    ///
    /// A step that learns of another number than before looks once more: a row that came earlier woke nobody.
    pub(super) async fn ask(&self, step: &Step) -> u64 {
        let mut asked = self.0.lock().await;
        if asked.at.is_none_or(|at| at.elapsed() >= AGAIN) {
            let now = Instant::now();
            match send(step).await {
                Ok(()) => {
                    asked.times += u64::from(asked.at.is_none_or(|at| at.elapsed() >= HEARD));
                    asked.at = Some(now);
                }
                Err(error) => {
                    let watch = &step.plan.watch.name;
                    tracing::debug!(watch, %error, "producers could not be asked to wake this worker; it polls");
                }
            }
        }
        asked.times
    }
}

async fn send(step: &Step) -> sqlx::Result<()> {
    let mut conn = step.all.own.acquire().await?;
    let sent = within(DEADLINE, sqlx::query(SLEEP).bind(Oid(step.plan.table.oid)).execute(&mut *conn)).await;
    if sent.as_ref().is_err_and(|error| error.as_database_error().is_none()) {
        drop(conn.detach()); // nobody knows in what state it is
    }
    sent.map(drop)
}

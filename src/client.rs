//! What application code calls, in its own transaction.
//!
//! Every function takes any [`sqlx::PgExecutor`]: `&mut *transaction` makes the run part of the
//! caller's commit, `&pool` commits at once. Whoever commits decides that the run exists; there is no
//! second system to keep in step. [`wait()`] takes a pool, since it asks again and again, and
//! [`backfill()`] a connection, since it asks twice.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
//! use watchbell::client::NewRun;
//!
//! let mut tx = pool.begin().await?;
//! sqlx::query("insert into orders (id) values ($1)").bind(7).execute(&mut *tx).await?;
//! NewRun::new("mail").payload(&serde_json::json!({"order": 7}))?.insert(&mut *tx).await?;
//! tx.commit().await?;
//! # Ok(())
//! # }
//! ```

mod activity;
mod answer;
mod backfill;
mod check;
mod declaration;
mod new_run;
mod new_runs;
mod new_schedule;
mod queue;
mod queues;
mod retries;
mod run_id;
mod run_list;
mod run_output;
mod schedule_list;
mod schedule_steer;
mod wait;
mod when;

use sqlx::PgExecutor;

use crate::db::Named;
use crate::error::{Error, Result};

pub use crate::run::RunId;
pub use activity::{Activity, ActivityRow, act_for};
pub use backfill::{Backfill, backfill};
pub use declaration::{Declaration, Declared};
pub use new_run::NewRun;
pub use new_runs::{RUNS_MAX, insert_many};
pub use new_schedule::{Change, NewSchedule};
pub use queue::Queue;
pub use queues::{drain, pause_queue, resume_queue, undrain};
pub use retries::{Failed, retry};
pub use run_list::{RunRow, Runs, run};
pub use run_output::{OutputRow, RunError, RunOutput, end_of_output, run_errors};
pub use schedule_list::{ScheduleRow, Schedules};
pub use schedule_steer::{cancel_schedule, pause, resume, run_now, run_now_with, skip_next, unschedule};
pub use wait::wait;
pub use when::{Moment, When, cron, fixed_delay, fixed_rate, once};

/// What [`cancel`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It was waiting and is over, with status `cancelled`.
    Waiting,
    /// It runs; its worker has been asked to stop it, which takes about a second.
    Requested,
    /// It was over already: nothing is changed.
    Finished,
}

/// Cancels a run; the reason is kept with it.
///
/// # Errors
/// [`Error::NotFound`] for an unknown id.
pub async fn cancel(executor: impl PgExecutor<'_>, id: RunId, reason: Option<&str>) -> Result<Cancelled> {
    let answer = sqlx::query_scalar("select watchbell.cancel($1, $2)").bind(id).bind(reason).fetch_one(executor).await;
    let answer: String = match answer {
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("P0002") => {
            return Err(Error::no_run(id));
        }
        answer => answer.named()?,
    };
    Ok(match answer.as_str() {
        "cancelled" => Cancelled::Waiting,
        "requested" => Cancelled::Requested,
        _ => Cancelled::Finished,
    })
}

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
//!
//! # Steering
//!
//! What people do in SQL, with the same functions and the same words; each call stands in `watchbell.activity`.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
//! use watchbell::client;
//!
//! client::pause(&pool, "nightly", Some("the warehouse moves"), None).await?;
//! let skipped = client::skip_next(&pool, "beat").await?; // the fire time that will make no run
//! let run = client::run_now(&pool, "nightly").await?; // a paused schedule runs when asked to
//! client::run_now_with(&pool, "nightly", &serde_json::json!({"day": "2026-03-01"})).await?;
//! client::resume(&pool, "nightly").await?;
//! client::cancel_schedule(&pool, "beat", Some("too many")).await?; // its open runs; it fires on
//! client::unschedule(&pool, "once").await?;
//!
//! client::pause_queue(&pool, "mails", Some("the mail server is down")).await?;
//! client::resume_queue(&pool, "mails").await?;
//!
//! client::drain(&pool, 7, Some("new kernel")).await?; // the worker with this number
//! if !client::undrain(&pool, 7).await? {
//!     println!("nobody had asked it to");
//! }
//! # let _ = (skipped, run);
//! # Ok(())
//! # }
//! ```
//!
//! # Watches
//!
//! Tables of people's own whose rows are the queue: see [`Watch`] for how one is made.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
//! use watchbell::client;
//!
//! client::pause_watch(&pool, "hosts", Some("the rack moves"), None).await?;
//! client::resume_watch(&pool, "hosts").await?;
//! let counts = client::watch_counts(&pool, "hosts").await?; // how many rows stand in each state
//! let tried = client::test_watch(&pool, "hosts", 5).await?; // what would be taken, and the missing index
//! let errors = client::watch_errors(&pool, "hosts", None, 20).await?; // of the last hour
//! let again = client::retry_watch(&pool, "hosts", 1000).await?; // failed rows, back to where they failed
//! client::retry_watched_row(&pool, "hosts", &["7"]).await?; // the one with this key
//! let free = client::release_rows(&pool, "hosts", 1000).await?; // rows left at `via`, back to where they came from
//! client::release_row(&pool, "hosts", &["7"]).await?;
//! client::wake_watch(&pool, "hosts").await?; // a trigger: new rows are seen at once
//! client::unwake_watch(&pool, "hosts").await?;
//! client::unwatch(&pool, "hosts").await?;
//! # let _ = (counts, tried, errors, again);
//! # Ok(())
//! # }
//! ```

mod activity;
mod answer;
mod attention;
mod backfill;
mod check;
mod declaration;
mod declared;
mod new_run;
mod new_runs;
mod new_schedule;
mod new_watch;
mod patch;
mod queue;
mod queue_list;
mod queues;
mod retries;
mod run_id;
mod run_list;
mod run_output;
mod schedule_edit;
mod schedule_list;
mod schedule_steer;
mod status;
mod status_watches;
mod wait;
mod watch;
mod watch_edit;
mod watch_list;
mod watch_rows;
mod watch_steer;
mod when;
mod worker_list;

use sqlx::PgExecutor;

use crate::db::Named;
use crate::error::{Error, Result};

pub use crate::run::RunId;
pub use activity::{Activity, ActivityRow, act_for};
pub use attention::{AttentionRow, Severity, attention};
pub use backfill::{Backfill, backfill};
pub use declaration::Declaration;
pub use declared::{Declared, DeclaredWatches};
pub use new_run::NewRun;
pub use new_runs::{RUNS_MAX, insert_many};
pub use new_schedule::{Change, NewSchedule};
pub use new_watch::NewWatch;
pub use queue::Queue;
pub use queue_list::{LimitRow, QueueRow, limits, queues};
pub use queues::{drain, pause_queue, resume_queue, undrain};
pub use retries::{Failed, retry};
pub use run_list::{RunRow, Runs, run};
pub use run_output::{OutputRow, RunError, RunOutput, end_of_output, run_errors};
pub use schedule_edit::ScheduleEdit;
pub use schedule_list::{ScheduleRow, Schedules};
pub use schedule_steer::{cancel_schedule, pause, resume, run_now, run_now_with, skip_next, unschedule};
pub use status::{FailureRow, RunningRow, StatusReport, UpcomingRow, status};
pub use status_watches::WatchLoadRow;
pub use wait::wait;
pub use watch::{Step, Watch};
pub use watch_edit::WatchEdit;
pub use watch_list::{WatchRow, WatchStep, Watches};
pub use watch_rows::{WatchCount, WatchError, WatchTrial, test_watch, watch_counts, watch_errors};
pub use watch_steer::{
    pause_watch, release_row, release_rows, resume_watch, retry_watch, retry_watched_row, unwake_watch, unwatch,
    wake_watch,
};
pub use when::{Moment, When, cron, fixed_delay, fixed_rate, once};
pub use worker_list::{HandlerRow, WorkerRow, handlers, known_handlers, worker, workers};

/// What [`cancel`] did.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::RunId;
/// use watchbell::client::{self, Cancelled};
///
/// match client::cancel(&pool, RunId(7), Some("the order was withdrawn")).await? {
///     Cancelled::Waiting => println!("it will not start"),
///     Cancelled::Requested => println!("it is being stopped"),
///     Cancelled::Finished => println!("too late"),
/// }
/// # Ok(())
/// # }
/// ```
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

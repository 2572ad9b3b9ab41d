//! A job system on one PostgreSQL: insert a row, and replicated workers run it on time, once, and to the end.
//!
//! A *schedule* says what to do and when; at each *fire time* it becomes a *run*. A *worker* claims due runs,
//! calls the *handler* that each names, and records one end: `normal`, `failed` or `cancelled`. Workers are
//! interchangeable, there is no leader, and the database's clock decides. Start as many as you like.
//!
//! # A worker
//!
//! A [`handler`] is an async function of what it needs: the run's payload, its [`Context`], [`State`] of the
//! application. An error means another attempt later, unless it is [`fatal`]; a panic is a failure like any
//! other.
//!
//! ```no_run
//! use watchbell::{Context, HandlerResult, Worker, db, migrate};
//!
//! #[derive(serde::Deserialize)]
//! struct Mail { to: String }
//!
//! async fn mail(mail: Mail, ctx: Context) -> HandlerResult {
//!     // the run's number is the same in every attempt: an idempotency key
//!     println!("run {}, attempt {}: mail to {}", ctx.run_id(), ctx.attempt(), mail.to);
//!     Ok(())
//! }
//!
//! # async fn example(url: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let pool = db::pool(&url.parse()?, 20).await?;
//! migrate::up(&mut *pool.acquire().await?).await?; // any number of processes may
//! let ctrl_c = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
//! Worker::builder(pool).handler("mail", mail).run(ctrl_c).await?; // drains before it returns
//! # Ok(())
//! # }
//! ```
//!
//! # A run
//!
//! Whatever is inserted in your transaction exists if you commit: from Rust, or by anything that speaks SQL
//! (`INSERT INTO watchbell.runs (handler, payload) VALUES ('mail', '{"to": "a@b.c"}')`).
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use watchbell::client::{self, NewRun};
//!
//! let mut tx = pool.begin().await?;
//! sqlx::query("insert into orders (id) values (7)").execute(&mut *tx).await?;
//! let run = NewRun::new("mail")
//!     .payload(&serde_json::json!({"to": "a@b.c"}))?
//!     .delay(Duration::from_secs(60))
//!     .unique_key("order-7") // None is answered while such a run is open
//!     .insert(&mut *tx)
//!     .await?;
//! tx.commit().await?;
//!
//! if let Some(id) = run {
//!     println!("{}", client::run(&pool, id).await?.status);
//!     client::cancel(&pool, id, Some("the order was withdrawn")).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A schedule
//!
//! Four kinds: [`cron()`] by a wall clock, [`fixed_delay`] counted from the last run's end, [`fixed_rate`] from
//! its start, [`once`]. One line adds a job: a handler, and the schedule of its name. Every replica declares
//! it at every start, and the same again changes nothing.
//!
//! ```no_run
//! use watchbell::schedule::{Misfire, Overlap};
//! use watchbell::{Worker, cron, fixed_delay, minutes};
//!
//! async fn report() {}
//! async fn sync() {}
//!
//! # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
//! let nightly = cron("0 2 * * *")
//!     .timezone("Europe/Paris")
//!     .overlap(Overlap::Skip) // while the last one still runs
//!     .misfire(Misfire::FireOnce); // after an outage: the latest fire time only
//! Worker::builder(pool)
//!     .owner("shop") // another application on this database has another name
//!     .schedule("nightly", nightly, report)
//!     .schedule("sync", fixed_delay(minutes(5)), sync)
//!     .run(std::future::pending())
//!     .await
//! # }
//! ```
//!
//! What people do in SQL a program does as well, in its own transaction: [`client::pause`], [`client::run_now`],
//! [`client::skip_next`], [`client::backfill()`], [`client::retry`], [`client::pause_queue`] and others; and
//! [`client::wait()`] waits for a run's end.
//!
//! # What holds
//!
//! - A fire time acts at most once and is always accounted for, as a run or as a skip with its reason.
//! - A run starts at least once (at most once with `max_attempts = 1`) and has exactly one accepted end. Every
//!   write about it is guarded by a fencing token, so a worker that wakes up late changes nothing.
//! - What a [transactional handler](worker::Builder::transactional) writes and the end of its run are one
//!   commit. Other effects may happen twice, when a worker is cut off from the database and goes on.
//! - A killed worker's runs are taken over in about 2 s, those of a lost host within its lease (15 s) and 2 s.
//!
//! A schedule's fire times need no database to be computed:
//!
//! ```
//! use chrono::{TimeZone, Utc};
//! use watchbell::schedule::{Cron, Dst};
//!
//! let cron = Cron::parse("0 2 * * MON#1", "Europe/Paris", Dst::Once)?; // 02:00 on the first Monday
//! let after = Utc.with_ymd_and_hms(2026, 3, 1, 0, 0, 0).unwrap();
//! assert_eq!(cron.next(after), Some(Utc.with_ymd_and_hms(2026, 3, 2, 1, 0, 0).unwrap()));
//! # Ok::<(), watchbell::schedule::CronError>(())
//! ```
//!
//! # Features
//!
//! `bin`, on by default, is the command line program; a library writes `default-features = false` and gets
//! none of its crates. `shell` and `http` are the handlers of these names, for your own worker. `embedded`
//! starts a private PostgreSQL. `inventory` lets jobs register themselves by one `submit!` in any file.
//! `testing` lets your tests crank the engine by hand, at a time that they set.

#[cfg(feature = "bin")]
mod clock;
pub mod duration;
pub mod error;
pub mod retry;
pub mod run;
pub mod schedule;

pub mod db;
pub mod migrate;

pub mod client;
pub mod handler;
#[doc(hidden)]
pub mod lifecycle;
pub mod worker;

#[cfg(feature = "embedded")]
pub mod embedded;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "bin")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "bin")]
mod telemetry;

pub use client::{When, cron, fixed_delay, fixed_rate, once};
pub use duration::{days, hours, millis, minutes, seconds};
pub use error::{Error, Result};
pub use handler::{
    Context, Handler, HandlerError, HandlerOptions, HandlerResult, Next, Outcome, Payload, Registry, State, StopReason,
    Tx, blocking, fatal, retry_after, snooze,
};
pub use run::{RunId, Status};
pub use worker::Worker;

/// For [`submit!`].
#[cfg(feature = "inventory")]
#[doc(hidden)]
pub use inventory as __inventory;

/// The README's Rust, compiled by `cargo test --doc`.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide's Rust, likewise.
#[cfg(all(doctest, feature = "inventory"))]
#[doc = include_str!("../docs/library.md")]
struct Library;

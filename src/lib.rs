//! A job system on one PostgreSQL: insert a row, and replicated workers run it on time, once, and to the end.
//!
//! A *schedule* says what to do and when; at each *fire time* it becomes a *run*. A *worker* claims due runs,
//! calls the *handler* that each names, and records one end: `normal`, `failed` or `cancelled`. Workers are
//! interchangeable, there is no leader, and the database's clock decides. Start as many as you like.
//!
//! # One job, one line
//!
//! ```no_run
//! use watchbell::{Worker, cron, db, fixed_delay, migrate, minutes};
//!
//! async fn report() {}
//! async fn sync() -> std::io::Result<()> { Ok(()) }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = db::pool(&std::env::var("DATABASE_URL")?.parse()?, 20).await?;
//! migrate::up(&mut *pool.acquire().await?).await?; // any number of processes may, at every start
//!
//! let ctrl_c = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
//! Worker::builder(pool)
//!     .owner("shop") // another application on this database has another name
//!     .schedule("nightly", cron("0 2 * * *").timezone("Europe/Paris"), report)
//!     .schedule("sync", fixed_delay(minutes(5)), sync)
//!     .run(ctrl_c) // drains before it returns
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`schedule`](worker::Builder::schedule) registers a function and declares the schedule of its name, of one of four
//! kinds: [`cron()`] by a wall clock, [`fixed_delay`] counted from the last run's end, [`fixed_rate`] from its start,
//! [`once`]. Every replica declares it at every start; the same again changes nothing. What becomes of a fire time
//! while the last run is still going is its [`overlap`](schedule::Overlap), of one that passed while no worker was there
//! its [`misfire`](schedule::Misfire) policy; [`client::When`] has all options.
//!
//! # What does the work
//!
//! A [`handler`] is an async function of what it needs: the run's payload, its [`Context`], [`State`] of the
//! application. An error means another attempt later, unless it is [`fatal`]; a panic is a failure like any other.
//!
//! ```no_run
//! use watchbell::{Context, HandlerResult, State, Worker, fatal};
//!
//! #[derive(serde::Deserialize)]
//! struct Mail { to: String }
//!
//! #[derive(Clone)]
//! struct Mailer { from: String }
//!
//! async fn mail(mail: Mail, State(mailer): State<Mailer>, ctx: Context) -> HandlerResult {
//!     if !mail.to.contains('@') {
//!         return Err(fatal("no such address")); // another attempt would not help
//!     }
//!     // the run's number is the same in every attempt: an idempotency key
//!     ctx.log(format!("run {}, attempt {}: {} to {}", ctx.run_id(), ctx.attempt(), mailer.from, mail.to));
//!     Ok(())
//! }
//!
//! # fn example(pool: sqlx::PgPool) -> watchbell::worker::Builder {
//! Worker::builder(pool).state(Mailer { from: "shop@example.com".to_owned() }).handler("mail", mail)
//! # }
//! ```
//!
//! - An [`Outcome`] says more than success: [`snooze`] is again later, without using up an attempt.
//! - [`transactional`](worker::Builder::transactional) takes a function that gets the transaction ([`Tx`]) in which its
//!   run's end is recorded; [`blocking`] makes a handler of one that blocks its thread.
//! - [`HandlerOptions`] limit how many runs of a handler go on at once, and their time;
//!   [`around`](worker::Builder::around) puts code around every handler.
//! - [`on_finish`](worker::Builder::on_finish), `on_start`, `on_retry` and `on_lost` tell what became of a run.
//! - A job may stand in a file of its own and register itself: [`submit!`], and
//!   [`plugins`](worker::Builder::plugins) in `main`.
//! - [`start`](worker::Builder::start) answers a [`Handle`](worker::Handle) to a worker in the background.
//!
//! # One run
//!
//! Whatever is inserted in your transaction exists if you commit: from Rust, or by anything that speaks SQL
//! (`INSERT INTO watchbell.runs (handler, payload) VALUES ('mail', '{"to": "a@b.c"}')`).
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! use watchbell::client::{self, NewRun};
//! use watchbell::minutes;
//!
//! let mut tx = pool.begin().await?;
//! sqlx::query("insert into orders (id) values (7)").execute(&mut *tx).await?;
//! let run = NewRun::new("mail")
//!     .payload(&serde_json::json!({"to": "a@b.c"}))?
//!     .delay(minutes(1))
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
//! What people do in SQL a program does with the same words, in its own transaction: [`client::pause`],
//! [`client::run_now`], [`client::skip_next`], [`client::backfill()`], [`client::retry`], [`client::pause_queue`] and
//! others of [`client`]; [`client::wait()`] waits for a run's end.
//!
//! # Tests
//!
//! With the feature `testing` your tests crank the engine by hand, at a time that they set: [`testing::Engine`] fires,
//! claims and calls your real handlers, and nothing sleeps. When a schedule fires needs no database at all:
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
//! # What holds
//!
//! - A fire time acts at most once and is always accounted for, as a run or as a skip with its reason.
//! - A run starts at least once (at most once with `max_attempts = 1`) and has exactly one accepted end. Every
//!   write about it is guarded by a fencing token, so a worker that wakes up late changes nothing.
//! - What a [transactional handler](worker::Builder::transactional) writes and the end of its run are one
//!   commit. Other effects may happen twice, when a worker is cut off from the database and goes on.
//! - A killed worker's runs are taken over in about 2 s, those of a lost host within its lease (15 s) and 2 s.
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | `bin`, on by default | the command line program; a library writes `default-features = false` and gets none of its crates |
//! | `shell`, `http` | the handlers of these names, for your own worker |
//! | `inventory` | [`submit!`]: jobs that register themselves |
//! | `testing` | the module [`testing`] |
//! | `embedded` | a private PostgreSQL, started by your program |
//!
//! The handler [`sql`](handler::sql) needs none.
//!
//! Rust 1.94 or later. `shell` and `embedded` are for Unix; elsewhere the one is not there and the other refuses.

mod clock;
pub mod duration;
pub mod error;
pub mod metrics;
mod nearest;
pub mod retry;
pub mod run;
pub mod schedule;

pub mod db;
pub mod migrate;

pub mod client;
pub mod handler;
#[doc(hidden)]
pub mod lifecycle;
#[doc(hidden)]
pub mod watch;
pub mod worker;

#[cfg(feature = "embedded")]
pub mod embedded;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "bin")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "bin")]
mod server;
#[cfg(feature = "bin")]
mod telemetry;

pub use client::{Watch, When, cron, fixed_delay, fixed_rate, once};
pub use duration::{days, hours, millis, minutes, seconds};
pub use error::{Error, Result};
pub use handler::{
    Context, Handler, HandlerError, HandlerOptions, HandlerResult, Next, Outcome, Payload, Registry, Row, Rows, State,
    StopReason, Tx, blocking, fatal, retry_after, snooze,
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

/// What measures it, likewise.
#[cfg(doctest)]
#[doc = include_str!("../docs/metrics.md")]
struct Metrics;

/// And what it says about tests.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../docs/testing.md")]
struct Testing;
